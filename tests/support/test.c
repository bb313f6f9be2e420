#include "support/test.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CASES = 1024, MAX_TEMP_PATHS = 1024 };

static struct {
    const char *name;
    test_body body;
} cases[MAX_CASES];
static int num_cases;

static struct {
    const char *name;
    char parameters[256];
    bool failed;
    bool skipped;
    int part;        /* begun last, 0 at first */
    int failed_part; /* the first; 0: not in a part */
} running;

/* The command line. */
static const char *program;
static int only_part; /* 0: all */

static char temp_folder[256];
static char *temp_paths[MAX_TEMP_PATHS];
static int num_temp_paths;

void test_register(const char *name, test_body body)
{
    SKY_ASSERT(num_cases < MAX_CASES);
    cases[num_cases].name = name;
    cases[num_cases++].body = body;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list args;
    if (!running.failed) {
        running.failed_part = running.part;
    }
    running.failed = true;
    fprintf(stderr, "FAIL %s%s%s%s: %s:%d: ", running.name, running.parameters[0] != '\0' ? " (" : "",
            running.parameters, running.parameters[0] != '\0' ? ")" : "", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void test_skip(const char *reason)
{
    const char *require_gpu = getenv("SKY_REQUIRE_GPU");
    if (require_gpu != NULL && strcmp(require_gpu, "1") == 0 && strstr(reason, "GPU") != NULL) {
        test_fail("skip", 0, "%s, but SKY_REQUIRE_GPU=1", reason);
        return;
    }
    running.skipped = true;
    fprintf(stderr, "skip %s: %s\n", running.name, reason);
}

/* How to run the case, or the part that failed first, alone. */
static void print_command(void)
{
    const char *ranks = getenv("OMPI_COMM_WORLD_SIZE");
    fprintf(stderr, "     alone: ");
    if (ranks != NULL) {
        fprintf(stderr, "mpirun --oversubscribe -np %s ", ranks);
    }
    fprintf(stderr, "%s %s", program, running.name);
    if (running.failed_part > 0) {
        fprintf(stderr, " --part %d", running.failed_part);
    }
    fputc('\n', stderr);
}

bool test_part(void)
{
    running.part++;
    return only_part == 0 || only_part == running.part;
}

bool test_parts_wanted(int count)
{
    return only_part == 0 || (only_part > running.part && only_part <= running.part + count);
}

bool test_failed(void)
{
    return running.failed;
}

void test_parameters(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(running.parameters, sizeof running.parameters, format, args);
    va_end(args);
}

const char *test_temp_path(const char *name)
{
    if (temp_folder[0] == '\0') {
        const char *root = getenv("TMPDIR");
        snprintf(temp_folder, sizeof temp_folder, "%s/skyreels-test-XXXXXX", root != NULL ? root : "/tmp");
        if (mkdtemp(temp_folder) == NULL) {
            perror(temp_folder);
            exit(1);
        }
    }
    SKY_ASSERT(num_temp_paths < MAX_TEMP_PATHS);
    char *path = malloc(strlen(temp_folder) + strlen(name) + 2);
    SKY_ASSERT(path != NULL);
    sprintf(path, "%s/%s", temp_folder, name);
    temp_paths[num_temp_paths++] = path;
    return path;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Whether a case has exactly this name. */
static bool is_case(const char *name)
{
    for (int i = 0; i < num_cases; i++) {
        if (strcmp(cases[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool selected(const char *name, char *const *wanted, int num_wanted)
{
    for (int i = 0; i < num_wanted; i++) {
        if (is_case(wanted[i]) ? strcmp(name, wanted[i]) == 0 : strstr(name, wanted[i]) != NULL) {
            return true;
        }
    }
    return num_wanted == 0;
}

/* Takes --part N off the arguments; returns how many names are left. */
static int parse(int argc, char **argv)
{
    program = argv[0];
    if (argc >= 3 && strcmp(argv[argc - 2], "--part") == 0) {
        only_part = atoi(argv[argc - 1]);
        SKY_ASSERT(only_part > 0);
        argc -= 2;
    }
    return argc - 1;
}

int test_main(int argc, char **argv)
{
    int passed = 0;
    int failed = 0;
    int skipped = 0;
    const int num_wanted = parse(argc, argv);
    for (int i = 0; i < num_cases; i++) {
        if (!selected(cases[i].name, argv + 1, num_wanted)) {
            continue;
        }
        memset(&running, 0, sizeof running);
        running.name = cases[i].name;
        sky_clear_message();
        cases[i].body();
        if (running.failed) {
            print_command();
        }
        failed += running.failed;
        skipped += running.skipped && !running.failed;
        passed += !running.failed && !running.skipped;
    }
    if (temp_folder[0] != '\0') {
        nftw(temp_folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
    for (int i = 0; i < num_temp_paths; i++) {
        free(temp_paths[i]);
    }
    printf("# %d passed, %d failed, %d skipped\n", passed, failed, skipped);
    if (failed > 0) {
        return 1;
    }
    return passed == 0 ? 77 : 0;
}
