#include "weights/torch_pickle_impl.h"

#include <stdalign.h>
#include <string.h>

enum {
    MAX_STACK = 1000000,
    MAX_MEMO = 1000000,
    CHUNK_BYTES = 64 << 10,
    FIRST_CAPACITY = 1024,
};

/* The start of a block that objects are cut from. */
struct pickle_chunk {
    alignas(16) pickle_chunk *next;
};

void sky_pickle_machine_release(pickle_machine *m)
{
    while (m->chunks != NULL) {
        pickle_chunk *next = m->chunks->next;
        sky_budget_free(m->budget, m->chunks);
        m->chunks = next;
    }
    sky_budget_free(m->budget, m->stack);
    sky_budget_free(m->budget, m->memo);
}

sky_status sky_pickle_refuse(const pickle_machine *m, const char *why)
{
    return sky_fail(SKY_ERR_INPUT, "pickle: at byte %zu: %s", m->at, why);
}

sky_status sky_pickle_alloc(pickle_machine *m, size_t bytes, void **out)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > m->free_bytes) {
        const size_t block_bytes = sizeof(pickle_chunk) + (bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
        void *block = NULL;
        SKY_TRY(sky_budget_alloc(m->budget, block_bytes, &block));
        pickle_chunk *c = block;
        c->next = m->chunks;
        m->chunks = c;
        m->free_at = (unsigned char *)(c + 1);
        m->free_bytes = block_bytes - sizeof(pickle_chunk);
    }
    *out = m->free_at;
    m->free_at += bytes;
    m->free_bytes -= bytes;
    return SKY_OK;
}

/* Makes *values at least wanted long (at most max); new ones are PICKLE_UNSET. */
static sky_status grow(pickle_machine *m, pickle_value **values, size_t *capacity, size_t wanted, size_t max)
{
    size_t larger = *capacity > 0 ? *capacity : FIRST_CAPACITY;
    while (larger < wanted) {
        larger *= 2;
    }
    larger = larger < max ? larger : max;
    void *block = NULL;
    SKY_TRY(sky_budget_alloc(m->budget, larger * sizeof **values, &block));
    pickle_value *grown = block;
    memset(grown, 0, larger * sizeof *grown);
    if (*capacity > 0) {
        memcpy(grown, *values, *capacity * sizeof *grown);
    }
    sky_budget_free(m->budget, *values);
    *values = grown;
    *capacity = larger;
    return SKY_OK;
}

sky_status sky_pickle_push(pickle_machine *m, pickle_value v)
{
    if (m->stack_len == MAX_STACK) {
        return sky_pickle_refuse(m, "the stack is too deep");
    }
    if (m->stack_len == m->stack_capacity) {
        SKY_TRY(grow(m, &m->stack, &m->stack_capacity, m->stack_len + 1, MAX_STACK));
    }
    m->stack[m->stack_len++] = v;
    return SKY_OK;
}

const pickle_value *sky_pickle_top(const pickle_machine *m)
{
    return m->stack_len > 0 && m->stack[m->stack_len - 1].kind != PICKLE_MARK ? &m->stack[m->stack_len - 1] : NULL;
}

sky_status sky_pickle_pop(pickle_machine *m, pickle_value *out)
{
    const pickle_value *top = sky_pickle_top(m);
    if (top == NULL) {
        return sky_pickle_refuse(m, "the stack has too few values");
    }
    *out = *top;
    m->stack_len--;
    return SKY_OK;
}

sky_status sky_pickle_pop_to_mark(pickle_machine *m, const pickle_value **items, size_t *num_items)
{
    size_t i = m->stack_len;
    while (i > 0 && m->stack[i - 1].kind != PICKLE_MARK) {
        i--;
    }
    if (i == 0) {
        return sky_pickle_refuse(m, "no mark on the stack");
    }
    *items = m->stack + i;
    *num_items = m->stack_len - i;
    m->stack_len = i - 1;
    return SKY_OK;
}

sky_status sky_pickle_memo_put(pickle_machine *m, uint64_t index)
{
    const pickle_value *top = sky_pickle_top(m);
    if (top == NULL || index >= MAX_MEMO) {
        return sky_pickle_refuse(m, "nothing to put into the memo, or too high a number");
    }
    if (index >= m->memo_capacity) {
        SKY_TRY(grow(m, &m->memo, &m->memo_capacity, (size_t)index + 1, MAX_MEMO));
    }
    m->memo[index] = *top;
    return SKY_OK;
}

sky_status sky_pickle_memo_get(pickle_machine *m, uint64_t index)
{
    if (index >= m->memo_capacity || m->memo[index].kind == PICKLE_UNSET) {
        return sky_pickle_refuse(m, "a number of the memo that was never put");
    }
    return sky_pickle_push(m, m->memo[index]);
}

sky_status sky_pickle_take(pickle_machine *m, uint64_t bytes, const unsigned char **out)
{
    if (bytes > m->len - m->at) {
        return sky_pickle_refuse(m, "it ends too early");
    }
    *out = m->data + m->at;
    m->at += (size_t)bytes;
    return SKY_OK;
}

sky_status sky_pickle_take_number(pickle_machine *m, int bytes, uint64_t *out)
{
    const unsigned char *p = NULL;
    SKY_TRY(sky_pickle_take(m, (uint64_t)bytes, &p));
    *out = sky_little_endian(p, bytes);
    return SKY_OK;
}

sky_status sky_pickle_take_line(pickle_machine *m, const char **line, size_t *len)
{
    const unsigned char *start = m->data + m->at;
    const unsigned char *end = memchr(start, '\n', m->len - m->at);
    if (end == NULL) {
        return sky_pickle_refuse(m, "it ends too early");
    }
    *line = (const char *)start;
    *len = (size_t)(end - start);
    m->at += *len + 1;
    return SKY_OK;
}

bool sky_pickle_text_is(const char *text, size_t len, const char *want)
{
    return len == strlen(want) && memcmp(text, want, len) == 0;
}
