# PGXS build of emag_sync_guard.
#
#   make && make install            with the pg_config on the PATH
#   make PG_CONFIG=... CXX=clang++  another server, another compiler
#   make with_llvm=no               without the bitcode for the JIT
#   make WERROR=                    warnings stay warnings (for packagers)
#   make ASSERTIONS=yes             with assertions, as the tests have it; the server may be without
#   make SANITIZE=address,undefined the module alone under sanitizers; the server must preload their libraries
#   make installcheck               pg_regress, isolation and TAP on a running server
#   make exports                    rewrites src/exports.txt after a change of the SQL functions
#
# test/run does all of it on a server of its own.

EXTENSION   = emag_sync_guard
MODULE_big  = emag_sync_guard
PGFILEDESC  = "emag_sync_guard - keeps a table of background runs honest"

# The version stands once, in the control file.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control)

# ---- the module -------------------------------------------------------------
SOURCES    := $(sort $(wildcard src/core/*.cpp src/pg/*.cpp src/*.cpp))
OBJS        = $(SOURCES:.cpp=.o)

# What the module shows the server: one list, turned into a linker script by
# PGXS (hidden visibility alone still leaks symbols of libstdc++).
SHLIB_EXPORTS = src/exports.txt

# PGXS links with the C compiler. The rest is full RELRO, which a server built
# without hardening flags would not ask for.
FULL_RELRO  = -Wl,-z,relro -Wl,-z,now
SHLIB_LINK  = -lstdc++ $(if $(filter linux,$(PORTNAME)),$(FULL_RELRO)) $(SANITIZE:%=-fsanitize=%)

WERROR     ?= -Werror
SANITIZED   = -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer -fno-wrapv -O1
CXX_RULES   = -std=c++17 -Wall -Wextra -Wshadow -Wno-register $(WERROR) $(if $(SANITIZE),$(SANITIZED))
PG_CXXFLAGS = $(CXX_RULES)

# src/ is the root of our includes. The server's headers are system headers to
# us: their warnings are not ours. (Both folders, so that their order stays.)
PG_CPPFLAGS = -Isrc -DEMAG_SYNC_GUARD_VERSION='"$(EXTVERSION)"' \
              -isystem $(includedir_server) -isystem $(includedir_internal) \
              $(if $(ASSERTIONS),-DUSE_ASSERT_CHECKING=1) \
              $(if $(SANITIZE),-D_GLIBCXX_ASSERTIONS -D_GLIBCXX_SANITIZE_VECTOR=1)

# ---- the install script -----------------------------------------------------
# sql/parts is the living source of the current version's, put together in the
# order of the names. Those of released versions are frozen, and so are the
# upgrade scripts that end at one: all are installed, and none is ever edited.
SQL_PARTS  := $(sort $(wildcard sql/parts/*.sql))
SQL_SCRIPT := sql/$(EXTENSION)--$(EXTVERSION).sql
SQL_OTHERS := $(sort $(filter-out $(SQL_SCRIPT),$(wildcard sql/$(EXTENSION)--*.sql)))
DATA_built  = $(SQL_SCRIPT)
DATA        = $(SQL_OTHERS)

# ---- tests ------------------------------------------------------------------
# pg_regress takes test/sql and expected/, the isolation tester test/specs and
# test/expected; what runs, and in what order, stands in the two schedules.
REGRESS        = --schedule=test/schedule
REGRESS_OPTS   = --inputdir=test
ISOLATION      = --schedule=test/isolation_schedule
ISOLATION_OPTS = --inputdir=test --outputdir=output_iso --load-extension=$(EXTENSION) \
                 $(if $(filter 15,$(MAJORVERSION)),,--expecteddir=test)
TAP_TESTS      = 1
PROVE_TESTS   := $(or $(PROVE_TESTS),test/t/*.pl)

EXTRA_CLEAN = $(SOURCES:.cpp=.bc) $(SOURCES:.cpp=.d) src/exports.list src/exports.checked

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

ifeq ($(filter-out 10 11 12 13 14,$(MAJORVERSION)),)
$(error emag_sync_guard needs PostgreSQL 15 or later; $(PG_CONFIG) is of $(MAJORVERSION))
endif

PG_PROVE_FLAGS += -I test/perl

# The rule that makes bitcode knows nothing of CXXFLAGS.
override BITCODE_CXXFLAGS += $(CXX_RULES)

# The server's own flags are those of the compiler that built it.
ifneq ($(findstring clang,$(shell $(CXX) --version)),)
override CXXFLAGS += -Wno-unknown-warning-option
endif

# Our own rule for objects, since PGXS tracks headers only when the server was
# built to: each object leaves a .d file that speaks for its bitcode as well.
$(OBJS): %.o: %.cpp Makefile $(EXTENSION).control
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -MF $*.d -MT $*.o -MT $*.bc -c -o $@ $<

$(SOURCES:.cpp=.bc): Makefile $(EXTENSION).control

-include $(SOURCES:.cpp=.d)

$(SQL_SCRIPT): $(SQL_PARTS) Makefile $(EXTENSION).control
	cat $(SQL_PARTS) > $@.tmp
	mv $@.tmp $@

# ---- the list of exported symbols -------------------------------------------
# A function that SQL names but the list lacks would be missed at CREATE
# EXTENSION only; this says so at once. What a released version's script names
# stays exported: a database that was not upgraded yet calls it.
$(shlib): src/exports.checked

src/exports.checked: src/exports.txt src/exports.sh $(SQL_PARTS) $(SQL_OTHERS)
	sh src/exports.sh check src/exports.txt $(SQL_PARTS) $(SQL_OTHERS)
	touch $@

.PHONY: exports
exports:
	sh src/exports.sh write src/exports.txt $(SQL_PARTS) $(SQL_OTHERS)
