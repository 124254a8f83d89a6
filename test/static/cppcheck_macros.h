// What cppcheck must know of the server's macros to read a file that uses them; it is not shown the server's headers.
#define foreach(cell, list) for (const ListCell *cell = first_cell(list); cell != nullptr; cell = next_cell(list, cell))
#define PG_TRY(...) if (true)
#define PG_CATCH(...) else
#define PG_FINALLY(...)
#define PG_END_TRY(...)
#define ereport(level, ...) report_and_leave(__VA_ARGS__)
[[noreturn]] void report_and_leave(...);
