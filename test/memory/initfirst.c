/*
 * Preloaded beside the sanitizers into a program that was built without them, and linked with -z initfirst: its constructor
 * runs before that of any other library, and so does AddressSanitizer's start.
 *
 * Else that start comes with the first malloc of some library's constructor. Where this holds a lock of gettext's
 * (libgpg-error: bindtextdomain), the sanitizer, which asks gettext for the text of an error, breaks the lock, and the
 * program waits for it for ever.
 *
 * UBSan starts at its first report. By then the server has written its title over the environment: its options stand here.
 */
#include <stdlib.h>

const char *__ubsan_default_options(void);

const char *
__ubsan_default_options(void)
{
	return "print_stacktrace=1:abort_on_error=1";
}

__attribute__((constructor)) static void
start_the_sanitizer(void)
{
	free(malloc(1));
}
