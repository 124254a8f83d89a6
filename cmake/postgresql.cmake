# Finds the server that pg_config names (-DPG_CONFIG=... for another) and builds the module for it.

find_program(PG_CONFIG pg_config DOC "pg_config of the server to build for")
set(PostgreSQL_Server_FOUND OFF)
if(PG_CONFIG)
  execute_process(COMMAND ${PG_CONFIG} --includedir-server OUTPUT_VARIABLE pg_server_headers
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${PG_CONFIG} --pkgincludedir OUTPUT_VARIABLE pg_package_headers
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${PG_CONFIG} --version OUTPUT_VARIABLE pg_version
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  if(EXISTS ${pg_server_headers}/postgres.h)
    set(PostgreSQL_Server_FOUND ON)
  endif()
endif()

# Adds the target `emag_sync_guard`, the shared object of that name.
function(esg_add_module)
  if(NOT PostgreSQL_Server_FOUND)
    message(FATAL_ERROR "ESG_BUILD_MODULE: no server headers found; name them with -DPG_CONFIG=/path/to/pg_config")
  endif()
  file(GLOB sources CONFIGURE_DEPENDS src/*.cpp src/pg/*.cpp)
  if(NOT sources)
    message(STATUS "emag_sync_guard: no module sources yet")
    return()
  endif()
  message(STATUS "emag_sync_guard ${PROJECT_VERSION} for ${pg_version}")

  add_library(emag_sync_guard MODULE ${sources})
  set_target_properties(emag_sync_guard PROPERTIES PREFIX "" SUFFIX ".so")
  target_link_libraries(emag_sync_guard PRIVATE esg_core)
  target_compile_definitions(emag_sync_guard PRIVATE _GNU_SOURCE EMAG_SYNC_GUARD_VERSION="${PROJECT_VERSION}")
  # The server's headers are system headers to us: their warnings are not ours. Up to 15 they say `register`.
  target_include_directories(emag_sync_guard SYSTEM PRIVATE ${pg_server_headers} ${pg_package_headers}/internal)
  target_compile_options(emag_sync_guard PRIVATE -Wno-register)

  # What the module shows is what src/exports.txt lists, as a linker script, as PGXS does it. Hidden visibility would
  # not do: up to 15 the server's headers mark no symbol as exported, and it leaks symbols of libstdc++.
  set(exports ${PROJECT_SOURCE_DIR}/src/exports.txt)
  if(EXISTS ${exports})
    set(script ${CMAKE_CURRENT_BINARY_DIR}/exports.list)
    file(STRINGS ${exports} symbols REGEX "^[^#]")
    list(JOIN symbols ";\n" symbols)
    file(CONFIGURE OUTPUT ${script} CONTENT "{ global:\n@symbols@;\nlocal: *; };\n" @ONLY)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${exports})
    set_property(TARGET emag_sync_guard APPEND PROPERTY LINK_DEPENDS ${script})
    target_link_options(emag_sync_guard PRIVATE -Wl,--version-script=${script})
  endif()
endfunction()
