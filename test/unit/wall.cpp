// One header of the core in a translation unit of its own. Compiled by ctest, never linked: see CMakeLists.txt.

#include ESG_HEADER
