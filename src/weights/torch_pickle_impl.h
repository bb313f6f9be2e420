/*
 * weights/torch_pickle_impl.h - the stack machine that reads a pickle; private to its files
 *
 *     torch_pickle.c          the instructions, and the state dict that they leave
 *     torch_pickle_machine.c  memory, stack, memo and the bytes of the program
 *     torch_pickle_objects.c  dicts, and what the names in a pickle stand for: storages and tensors
 */
#ifndef SKY_WEIGHTS_TORCH_PICKLE_IMPL_H
#define SKY_WEIGHTS_TORCH_PICKLE_IMPL_H

#include "weights/torch_pickle.h"

/* ---- values ---- */

typedef enum pickle_kind {
    PICKLE_UNSET = 0, /* a memo slot that was never put */
    PICKLE_MARK,
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST, /* its items are not kept: nothing reads them */
    PICKLE_DICT,
    PICKLE_ORDERED_DICT,
    PICKLE_GLOBAL,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
} pickle_kind;

typedef struct pickle_value pickle_value;
typedef struct pickle_known pickle_known; /* a name that a pickle may use; torch_pickle_objects.c */

typedef struct pickle_storage {
    int64_t index; /* the visitor's */
    uint64_t numel;
    sky_dtype dtype;
} pickle_storage;

typedef struct pickle_item {
    const char *key;
    size_t key_len;
    const pickle_value *value;
    struct pickle_item *next;
} pickle_item;

/* Keeps, in order, the items that may matter: string keys with tensors or dicts. */
typedef struct pickle_dict {
    pickle_item *first;
    pickle_item *last;
    uint64_t num_items; /* all that were set */
} pickle_dict;

struct pickle_value {
    pickle_kind kind;
    uint32_t len; /* of text or items */
    union {
        int64_t number;
        const char *text; /* in the pickle's bytes, not terminated */
        const pickle_value *items;
        pickle_dict *dict;
        const pickle_known *known;
        const pickle_storage *storage;
        const sky_pickle_tensor *tensor; /* without a name */
    };
};

/* Whether these len bytes, which need no terminator, are the text. */
bool sky_pickle_text_is(const char *text, size_t len, const char *want);

/* ---- the machine (torch_pickle_machine.c) ---- */

typedef struct pickle_chunk pickle_chunk;

typedef struct pickle_machine {
    const unsigned char *data;
    size_t len;
    size_t at; /* of the next byte to read */
    sky_budget *budget;
    const sky_pickle_visitor *visitor;
    pickle_chunk *chunks; /* objects; freed together at the end */
    unsigned char *free_at;
    size_t free_bytes;
    pickle_value *stack;
    size_t stack_len, stack_capacity;
    pickle_value *memo;
    size_t memo_capacity;
} pickle_machine;

/* Frees what the machine has allocated, values too. */
void sky_pickle_machine_release(pickle_machine *m);

/* INPUT with the place in the pickle and the reason. */
sky_status sky_pickle_refuse(const pickle_machine *m, const char *why);

/* Memory for an object, which lives as long as the machine. Errors: INPUT (budget), NOMEM. */
sky_status sky_pickle_alloc(pickle_machine *m, size_t bytes, void **out);

/* Errors: INPUT where the stack is full, or holds no value above its topmost mark; NOMEM. */
sky_status sky_pickle_push(pickle_machine *m, pickle_value v);
sky_status sky_pickle_pop(pickle_machine *m, pickle_value *out);

/*
 * The values above the topmost mark, which is taken off with them; they stay readable until the next push.
 * Errors: INPUT where there is no mark.
 */
sky_status sky_pickle_pop_to_mark(pickle_machine *m, const pickle_value **items, size_t *num_items);

/* The value on top of the stack; NULL where there is none, or a mark. */
const pickle_value *sky_pickle_top(const pickle_machine *m);

/* Puts the top of the stack into the memo, or gets a value from there. Errors: INPUT, NOMEM. */
sky_status sky_pickle_memo_put(pickle_machine *m, uint64_t index);
sky_status sky_pickle_memo_get(pickle_machine *m, uint64_t index);

/* The next `bytes` bytes of the pickle; the next at most 8 of them as a little-endian number; up to the next line end. */
sky_status sky_pickle_take(pickle_machine *m, uint64_t bytes, const unsigned char **out);
sky_status sky_pickle_take_number(pickle_machine *m, int bytes, uint64_t *out);
sky_status sky_pickle_take_line(pickle_machine *m, const char **line, size_t *len);

/* ---- objects (torch_pickle_objects.c); each refuses with INPUT what a state dict does not need ---- */

/* A dict or an OrderedDict. */
bool sky_pickle_is_dict(const pickle_value *v);

/* Pushes an empty dict of this kind. */
sky_status sky_pickle_push_dict(pickle_machine *m, pickle_kind kind);

/* Sets key, value, key, value, ... in the dict on top of the stack. */
sky_status sky_pickle_set_items(pickle_machine *m, const pickle_value *items, size_t num_items);

/* GLOBAL: two lines, module and name -> what the table of known names has under them */
sky_status sky_pickle_do_global(pickle_machine *m);

/* BINPERSID: ('storage', class, key, location, length) -> the storage, which the visitor knows by its key */
sky_status sky_pickle_do_persistent_id(pickle_machine *m);

/* REDUCE: a known function, a tuple of its arguments -> a tensor, an OrderedDict or a size */
sky_status sky_pickle_do_reduce(pickle_machine *m);

/* BUILD: an OrderedDict, {"_metadata": OrderedDict(...)} -> the first; the second, its __dict__, is dropped */
sky_status sky_pickle_do_build(pickle_machine *m);

#endif
