#include "base/json.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/json_reader.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BASE_BUDGET_BYTES ((uint64_t)64 << 20)

/* Memory of the parse that runs on this thread. */
typedef struct parse_budget {
    uint64_t left_bytes;
    bool exceeded;
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
        const uint64_t used = block != NULL ? malloc_usable_size(block) : 0;
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

/* Length of the longest string of the text, quotes and escapes counted, which decoded it is not longer than. */
static size_t longest_string(const char *text, size_t len)
{
    size_t longest = 0;
    size_t first = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string && text[i] == '\\') {
            i++;
        } else if (text[i] == '"') {
            longest = in_string && i - first > longest ? i - first : longest;
            first = i;
            in_string = !in_string;
        }
    }
    return in_string && len - first > longest ? len - first : longest;
}

static sky_status syntax_fail(const sky_json_reader *reader)
{
    size_t line = 1;
    size_t first = 0;
    for (size_t i = 0; i < reader->at; i++) {
        if (reader->text[i] == '\n') {
            line++;
            first = i + 1;
        }
    }
    return sky_fail(SKY_ERR_INPUT, "JSON: line %zu, column %zu: %s", line, reader->at - first + 1, reader->reason);
}

/* Within the budget of this thread. */
static json_t *read_text(sky_json_reader *reader)
{
    json_t *value = NULL;
    reader->scratch = budget_malloc(longest_string(reader->text, reader->len) + 1);
    if (reader->scratch != NULL) {
        value = sky_json_read(reader);
    }
    budget_free(reader->scratch);
    return value;
}

sky_status sky_json_parse_within(const char *text, size_t len, uint64_t budget_bytes, json_t **out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (pthread_once(&once, install_allocator) != 0) {
        return sky_fail(SKY_ERR_INTERNAL, "JSON: pthread_once failed");
    }
    const char *nul = memchr(text, '\0', len);
    if (nul != NULL) {
        return sky_fail(SKY_ERR_INPUT, "JSON: a NUL byte at %zu", (size_t)(nul - text));
    }
    parse_budget budget = {.left_bytes = budget_bytes};
    sky_json_reader reader = {.text = text, .len = len};
    current_budget = &budget;
    json_t *value = read_text(&reader);
    current_budget = NULL;
    if (value != NULL) {
        *out = value;
        return SKY_OK;
    }
    if (reader.reason != NULL) {
        return syntax_fail(&reader);
    }
    if (budget.exceeded) {
        return sky_fail(SKY_ERR_INPUT, "JSON: %zu bytes of text need more than %llu bytes of memory", len,
                        (unsigned long long)budget_bytes);
    }
    return sky_fail(SKY_ERR_NOMEM, "JSON: out of memory while parsing %zu bytes", len);
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
