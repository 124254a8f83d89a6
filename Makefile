# PGXS build of emag_sync_guard.
#
#   make && make install            with the pg_config on the PATH
#   make PG_CONFIG=... CXX=clang++  another server, another compiler
#   make with_llvm=no               without the bitcode for the JIT
#   make WERROR=                    warnings stay warnings (for packagers)
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
SHLIB_LINK  = -lstdc++ $(if $(filter linux,$(PORTNAME)),$(FULL_RELRO))

WERROR     ?= -Werror
CXX_RULES   = -std=c++17 -Wall -Wextra -Wshadow -Wno-register $(WERROR)
PG_CXXFLAGS = $(CXX_RULES)

# src/ is the root of our includes. The server's headers are system headers to
# us: their warnings are not ours. (Both folders, so that their order stays.)
PG_CPPFLAGS = -Isrc -DEMAG_SYNC_GUARD_VERSION='"$(EXTVERSION)"' \
              -isystem $(includedir_server) -isystem $(includedir_internal)

# ---- the install script -----------------------------------------------------
# sql/parts is the living source, put together in the order of the names.
SQL_PARTS  := $(sort $(wildcard sql/parts/*.sql))
SQL_SCRIPT  = sql/$(EXTENSION)--$(EXTVERSION).sql
DATA_built  = $(SQL_SCRIPT)
DATA        = $(wildcard sql/$(EXTENSION)--*--*.sql)

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
# EXTENSION only; this says so at once.
$(shlib): src/exports.checked

src/exports.checked: src/exports.txt src/exports.sh $(SQL_PARTS)
	sh src/exports.sh check src/exports.txt $(SQL_PARTS)
	touch $@

.PHONY: exports
exports:
	sh src/exports.sh write src/exports.txt $(SQL_PARTS)
