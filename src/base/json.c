#include "base/json.h"

#include "base/checked.h"
#include "base/file.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };
#define BASE_BUDGET_BYTES ((uint64_t)64 << 20)

/* Memory of the parse that runs on this thread. */
typedef struct parse_budget {
    uint64_t left_bytes;
    bool exceeded;
    bool out_of_memory;
} parse_budget;

/*
 * Jansson's allocator is one per process, so the budget travels by thread: set only while a parse runs. Blocks are plain
 * malloc blocks without a header of ours, so values made before, after or outside of a parse, and values freed later or
 * by another thread, are all fine.
 */
static _Thread_local parse_budget *current_budget;

static void *budget_malloc(size_t bytes)
{
    parse_budget *budget = current_budget;
    if (budget != NULL && bytes > budget->left_bytes) {
        budget->exceeded = true;
        return NULL;
    }
    void *block = malloc(bytes);
    if (budget != NULL) {
        if (block == NULL) {
            budget->out_of_memory = true;
            return NULL;
        }
        const uint64_t used = malloc_usable_size(block);
        budget->left_bytes -= used < budget->left_bytes ? used : budget->left_bytes;
    }
    return block;
}

static void budget_free(void *block)
{
    if (current_budget != NULL && block != NULL) {
        current_budget->left_bytes += malloc_usable_size(block);
    }
    free(block);
}

static void install_allocator(void)
{
    json_set_alloc_funcs(budget_malloc, budget_free);
}

/* Looks for what Jansson would have to recurse into, or stop at, before it sees the text. */
static sky_status scan(const char *text, size_t len)
{
    if (memchr(text, '\0', len) != NULL) {
        return sky_fail(SKY_ERR_INPUT, "JSON: a NUL byte at %zu",
                        (size_t)((const char *)memchr(text, '\0', len) - text));
    }
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > MAX_DEPTH) {
                return sky_fail(SKY_ERR_INPUT, "JSON: nested more than %d deep at byte %zu", (int)MAX_DEPTH, i);
            }
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return SKY_OK;
}

/* Jansson quotes the text in its messages; what is not plain ASCII does not go to a terminal. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e) {
            *text = '?';
        }
    }
}

sky_status sky_json_parse_within(const char *text, size_t len, uint64_t budget_bytes, json_t **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (pthread_once(&once, install_allocator) != 0) {
        return sky_fail(SKY_ERR_INTERNAL, "JSON: pthread_once failed");
    }
    SKY_TRY(scan(text, len));

    parse_budget budget = {.left_bytes = budget_bytes};
    json_error_t error;
    current_budget = &budget;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    current_budget = NULL;
    if (value != NULL) {
        *out = value;
        return SKY_OK;
    }
    if (budget.exceeded) {
        return sky_fail(SKY_ERR_INPUT, "JSON: %zu bytes of text need more than %llu bytes of memory", len,
                        (unsigned long long)budget_bytes);
    }
    if (budget.out_of_memory) {
        return sky_fail(SKY_ERR_NOMEM, "JSON: out of memory while parsing %zu bytes", len);
    }
    make_printable(error.text);
    return sky_fail(SKY_ERR_INPUT, "JSON: line %d, column %d: %s", error.line, error.column, error.text);
}

sky_status sky_json_parse(const char *text, size_t len, json_t **out)
{
    uint64_t budget = 0;
    if (!sky_checked_mul(len, 2, &budget) || !sky_checked_add(budget, BASE_BUDGET_BYTES, &budget)) {
        return sky_fail(SKY_ERR_INPUT, "JSON: %zu bytes of text are too many", len);
    }
    return sky_json_parse_within(text, len, budget, out);
}

sky_status sky_json_load(const char *path, size_t max_bytes, json_t **out)
{
    char *text = NULL;
    size_t len = 0;
    SKY_TRY(sky_file_read_all(path, max_bytes, &text, &len));
    const sky_status st = sky_json_parse(text, len, out);
    free(text);
    return sky_fail_in(st, "%s", path);
}

bool sky_json_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value)) {
        return false;
    }
    const json_int_t number = json_integer_value(value);
    if (number < 0 || number > (json_int_t)1 << 53) {
        return false;
    }
    *out = (uint64_t)number;
    return true;
}
