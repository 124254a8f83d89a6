/* What the models share. A comment that begins with src/ names the code a step stands for: file, colon, function.
 *
 * PROMISE(name, condition): an assertion; the checker's message holds the name, so that a mutant is seen to break the promise
 * its rule serves. SEEN(number): a place that the checker must get to, else the model is vacuous; with -DCOVER each visit is told.
 */
#ifdef COVER
#define LEAST_TOLD 0
#else
#define LEAST_TOLD 99
#endif

#define PROMISE(name, condition) assert((condition) || promise_##name)
#define SEEN(what) assert(what < LEAST_TOLD)

/* Nobody. Others are named by their process numbers. */
#define NOBODY 255

/* The status of a run's row, as committed. */
#define NO_ROW 0
#define RUNNING 1
#define FAILED 2
#define COMPLETED 3
