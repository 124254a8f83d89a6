// Points where a build made with -DESG_FAULT_POINTS can be told to fail, to see what is left behind where memory, a process or
// a statement ends just there (test/t/109_faults.pl). Any other build has nothing of them.
//
// A point is named file.what_has_just_happened and stands once in the source: between two things that must not come apart.
// It is told what to do by the setting emag_sync_guard.fault, 'point:action' or 'point:action:N' for the Nth time that a
// process comes by (the first, unless told); several are separated by commas. A session gets it by SET, a worker from the
// configuration file.
//
//   error      an ERROR
//   oom        an ERROR as palloc raises it
//   bad_alloc  std::bad_alloc as operator new throws it
//   fatal      a FATAL: the process ends, its callbacks at exit run
//   crash      the process is gone at once, and the server restarts
//   wait       it stands still until the file of the same name in fault_waits is removed
//
// Where the data directory has a folder fault_points, each point that was passed leaves a file there.
#pragma once

#ifdef ESG_FAULT_POINTS

namespace esg::fault {

/// Defines the setting; at load.
void load();

/// Does what the setting says of this point. `may_raise` false: in a callback at exit, where an error would have nobody to
/// tell; crash and wait alone are obeyed.
void reach(const char *point, bool may_raise);

}  // namespace esg::fault

#define ESG_LOAD_FAULTS() ::esg::fault::load()
#define ESG_FAULT_POINT(name) ::esg::fault::reach(name, true)
#define ESG_FAULT_POINT_AT_EXIT(name) ::esg::fault::reach(name, false)

#else

#define ESG_LOAD_FAULTS() static_cast<void>(0)
#define ESG_FAULT_POINT(name) static_cast<void>(0)
#define ESG_FAULT_POINT_AT_EXIT(name) static_cast<void>(0)

#endif
