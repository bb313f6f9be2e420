#include "weights/torch_pickle.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STEPS UINT64_C(50000000)
enum {
    MAX_STACK = 1000000,
    MAX_MEMO = 1000000,
    CHUNK_BYTES = 64 << 10,
    FIRST_CAPACITY = 1024,
};

/* Python's Lib/pickle.py; protocol 2 and earlier, those that a state dict needs */
enum opcode {
    OP_MARK = '(',
    OP_EMPTY_TUPLE = ')',
    OP_STOP = '.',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
};

typedef enum value_kind {
    KIND_UNSET = 0, /* a memo slot that was never put */
    KIND_MARK,
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_FLOAT,
    KIND_STRING,
    KIND_TUPLE,
    KIND_LIST, /* its items are not kept: nothing reads them */
    KIND_DICT,
    KIND_ORDERED_DICT,
    KIND_GLOBAL,
    KIND_STORAGE,
    KIND_TENSOR,
} value_kind;

typedef enum global_kind {
    GLOBAL_REBUILD_TENSOR,
    GLOBAL_REBUILD_TENSOR_V2,
    GLOBAL_REBUILD_PARAMETER,
    GLOBAL_ORDERED_DICT,
    GLOBAL_SIZE,
    GLOBAL_STORAGE,
} global_kind;

typedef struct global {
    const char *module;
    const char *name;
    global_kind kind;
    sky_dtype dtype; /* of a storage */
} global;

static const global globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_REBUILD_TENSOR_V2, SKY_F32},
    {"torch._utils", "_rebuild_tensor", GLOBAL_REBUILD_TENSOR, SKY_F32},
    {"torch._utils", "_rebuild_parameter", GLOBAL_REBUILD_PARAMETER, SKY_F32},
    {"collections", "OrderedDict", GLOBAL_ORDERED_DICT, SKY_F32},
    {"torch", "Size", GLOBAL_SIZE, SKY_F32},
    {"torch", "FloatStorage", GLOBAL_STORAGE, SKY_F32},
    {"torch", "DoubleStorage", GLOBAL_STORAGE, SKY_F64},
    {"torch", "HalfStorage", GLOBAL_STORAGE, SKY_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE, SKY_BF16},
    {"torch", "LongStorage", GLOBAL_STORAGE, SKY_I64},
    {"torch", "IntStorage", GLOBAL_STORAGE, SKY_I32},
    {"torch", "ShortStorage", GLOBAL_STORAGE, SKY_I16},
    {"torch", "CharStorage", GLOBAL_STORAGE, SKY_I8},
    {"torch", "ByteStorage", GLOBAL_STORAGE, SKY_U8},
    {"torch", "BoolStorage", GLOBAL_STORAGE, SKY_BOOL},
};

typedef struct value value;

typedef struct storage {
    int64_t index;
    uint64_t numel;
    sky_dtype dtype;
} storage;

typedef struct dict_item {
    const char *key;
    size_t key_len;
    const value *value;
    struct dict_item *next;
} dict_item;

/* Keeps, in order, the items that may matter: string keys with tensors or dicts. */
typedef struct dict {
    dict_item *first;
    dict_item *last;
    uint64_t num_items; /* all that were set */
} dict;

struct value {
    value_kind kind;
    uint32_t len; /* of text or items */
    union {
        int64_t number;
        const char *text;
        const value *items;
        dict *dict;
        const global *global;
        const storage *storage;
        const sky_pickle_tensor *tensor; /* without a name */
    };
};

typedef struct chunk {
    struct chunk *next;
    size_t bytes;
} chunk;

typedef struct machine {
    const unsigned char *data;
    size_t len;
    size_t at; /* of the next byte to read */
    sky_budget *budget;
    const sky_pickle_visitor *visitor;
    chunk *chunks; /* objects; freed together at the end */
    unsigned char *free_at;
    size_t free_bytes;
    value *stack;
    size_t stack_len, stack_capacity;
    value *memo;
    size_t memo_capacity;
} machine;

static sky_status refuse(const machine *m, const char *why)
{
    return sky_fail(SKY_ERR_INPUT, "pickle: at byte %zu: %s", m->at, why);
}

static sky_status object_alloc(machine *m, size_t bytes, void **out)
{
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > m->free_bytes) {
        const size_t block_bytes = sizeof(chunk) + (bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES);
        void *block = NULL;
        SKY_TRY(sky_budget_alloc(m->budget, block_bytes, &block));
        chunk *c = block;
        *c = (chunk){.next = m->chunks, .bytes = block_bytes};
        m->chunks = c;
        m->free_at = (unsigned char *)(c + 1);
        m->free_bytes = block_bytes - sizeof(chunk);
    }
    *out = m->free_at;
    m->free_at += bytes;
    m->free_bytes -= bytes;
    return SKY_OK;
}

/* Makes *values at least wanted long (at most max); new ones are KIND_UNSET. */
static sky_status grow(machine *m, value **values, size_t *capacity, size_t wanted, size_t max)
{
    size_t larger = *capacity > 0 ? *capacity : FIRST_CAPACITY;
    while (larger < wanted) {
        larger *= 2;
    }
    larger = larger < max ? larger : max;
    void *block = NULL;
    SKY_TRY(sky_budget_alloc(m->budget, larger * sizeof **values, &block));
    value *grown = block;
    memset(grown, 0, larger * sizeof *grown);
    if (*capacity > 0) {
        memcpy(grown, *values, *capacity * sizeof *grown);
    }
    sky_budget_free(m->budget, *values, *capacity * sizeof **values);
    *values = grown;
    *capacity = larger;
    return SKY_OK;
}

static sky_status push(machine *m, value v)
{
    if (m->stack_len == MAX_STACK) {
        return refuse(m, "the stack is too deep");
    }
    if (m->stack_len == m->stack_capacity) {
        SKY_TRY(grow(m, &m->stack, &m->stack_capacity, m->stack_len + 1, MAX_STACK));
    }
    m->stack[m->stack_len++] = v;
    return SKY_OK;
}

static sky_status pop(machine *m, value *out)
{
    if (m->stack_len == 0 || m->stack[m->stack_len - 1].kind == KIND_MARK) {
        return refuse(m, "the stack has too few values");
    }
    *out = m->stack[--m->stack_len];
    return SKY_OK;
}

/* The values above the topmost mark, which is taken off with them; they stay readable until the next push. */
static sky_status pop_to_mark(machine *m, const value **items, size_t *num_items)
{
    size_t i = m->stack_len;
    while (i > 0 && m->stack[i - 1].kind != KIND_MARK) {
        i--;
    }
    if (i == 0) {
        return refuse(m, "no mark on the stack");
    }
    *items = m->stack + i;
    *num_items = m->stack_len - i;
    m->stack_len = i - 1;
    return SKY_OK;
}

/* The next `bytes` bytes of the pickle. */
static sky_status take(machine *m, uint64_t bytes, const unsigned char **out)
{
    if (bytes > m->len - m->at) {
        return refuse(m, "it ends too early");
    }
    *out = m->data + m->at;
    m->at += (size_t)bytes;
    return SKY_OK;
}

/* The next `bytes` (at most 8) bytes as a little-endian number. */
static sky_status take_number(machine *m, int bytes, uint64_t *out)
{
    const unsigned char *p = NULL;
    SKY_TRY(take(m, (uint64_t)bytes, &p));
    *out = 0;
    for (int i = bytes; i > 0; i--) {
        *out = *out << 8 | p[i - 1];
    }
    return SKY_OK;
}

static sky_status push_int(machine *m, int64_t number)
{
    return push(m, (value){.kind = KIND_INT, .number = number});
}

/* A two's complement number of `bytes` bytes. */
static sky_status do_signed(machine *m, int bytes)
{
    uint64_t bits = 0;
    if (bytes > 8) {
        return refuse(m, "a number of more than 64 bits");
    }
    SKY_TRY(take_number(m, bytes, &bits));
    if (bytes > 0 && bytes < 8 && (bits >> (8 * bytes - 1) & 1) != 0) {
        bits |= ~UINT64_C(0) << (8 * bytes);
    }
    int64_t number;
    memcpy(&number, &bits, sizeof number);
    return push_int(m, number);
}

static sky_status do_unicode(machine *m)
{
    uint64_t len = 0;
    const unsigned char *text = NULL;
    SKY_TRY(take_number(m, 4, &len));
    SKY_TRY(take(m, len, &text));
    return push(m, (value){.kind = KIND_STRING, .len = (uint32_t)len, .text = (const char *)text});
}

static sky_status do_tuple(machine *m, const value *items, size_t num_items)
{
    void *block = NULL;
    if (num_items > 0) {
        SKY_TRY(object_alloc(m, num_items * sizeof *items, &block));
        memcpy(block, items, num_items * sizeof *items);
    }
    return push(m, (value){.kind = KIND_TUPLE, .len = (uint32_t)num_items, .items = block});
}

static sky_status do_short_tuple(machine *m, size_t num_items)
{
    value items[3] = {0};
    for (size_t i = num_items; i > 0; i--) {
        SKY_TRY(pop(m, &items[i - 1]));
    }
    return do_tuple(m, items, num_items);
}

static sky_status push_dict(machine *m, value_kind kind)
{
    void *block = NULL;
    SKY_TRY(object_alloc(m, sizeof(dict), &block));
    dict *d = block;
    *d = (dict){0};
    return push(m, (value){.kind = kind, .dict = d});
}

static bool is_dict(const value *v)
{
    return v->kind == KIND_DICT || v->kind == KIND_ORDERED_DICT;
}

static sky_status set_item(machine *m, dict *d, const value *key, const value *item)
{
    if (key->kind != KIND_STRING && key->kind != KIND_INT) {
        return refuse(m, "a key that is neither a string nor a number");
    }
    d->num_items++;
    if (key->kind != KIND_STRING || (item->kind != KIND_TENSOR && !is_dict(item))) {
        return SKY_OK;
    }
    void *block = NULL;
    SKY_TRY(object_alloc(m, sizeof(dict_item) + sizeof(value), &block));
    dict_item *entry = block;
    value *copy = (value *)(entry + 1);
    *copy = *item;
    *entry = (dict_item){.key = key->text, .key_len = key->len, .value = copy};
    *(d->last != NULL ? &d->last->next : &d->first) = entry;
    d->last = entry;
    return SKY_OK;
}

/* Items are on top of the dict that they go into: key, value, key, value, ... */
static sky_status set_items(machine *m, const value *items, size_t num_items)
{
    if (m->stack_len == 0 || !is_dict(&m->stack[m->stack_len - 1])) {
        return refuse(m, "SETITEM on something that is no dict");
    }
    if (num_items % 2 != 0) {
        return refuse(m, "a key without a value");
    }
    for (size_t i = 0; i < num_items; i += 2) {
        SKY_TRY(set_item(m, m->stack[m->stack_len - 1].dict, &items[i], &items[i + 1]));
    }
    return SKY_OK;
}

static sky_status do_setitem(machine *m)
{
    value pair[2] = {0};
    SKY_TRY(pop(m, &pair[1]));
    SKY_TRY(pop(m, &pair[0]));
    return set_items(m, pair, 2);
}

static sky_status check_append(const machine *m)
{
    return m->stack_len > 0 && m->stack[m->stack_len - 1].kind == KIND_LIST
               ? SKY_OK
               : refuse(m, "APPEND on something that is no list");
}

/* Only what a state dict carries: OrderedDict.__dict__ = {"_metadata": OrderedDict(...)}; dropped. */
static sky_status do_build(machine *m)
{
    value state = {0};
    SKY_TRY(pop(m, &state));
    const bool target_ok = m->stack_len > 0 && m->stack[m->stack_len - 1].kind == KIND_ORDERED_DICT;
    const dict_item *item = state.kind == KIND_DICT ? state.dict->first : NULL;
    if (!target_ok || item == NULL || state.dict->num_items != 1 || item->key_len != strlen("_metadata") ||
        memcmp(item->key, "_metadata", item->key_len) != 0 || !is_dict(item->value)) {
        return refuse(m, "BUILD of something other than an OrderedDict's _metadata");
    }
    return SKY_OK;
}

static bool line_is(const unsigned char *line, size_t len, const char *text)
{
    return len == strlen(text) && memcmp(line, text, len) == 0;
}

static sky_status take_line(machine *m, const unsigned char **line, size_t *len)
{
    const unsigned char *end = memchr(m->data + m->at, '\n', m->len - m->at);
    if (end == NULL) {
        return refuse(m, "it ends too early");
    }
    *line = m->data + m->at;
    *len = (size_t)(end - *line);
    m->at += *len + 1;
    return SKY_OK;
}

static sky_status do_global(machine *m)
{
    const unsigned char *module = NULL;
    const unsigned char *name = NULL;
    size_t module_len = 0;
    size_t name_len = 0;
    SKY_TRY(take_line(m, &module, &module_len));
    SKY_TRY(take_line(m, &name, &name_len));
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (line_is(module, module_len, globals[i].module) && line_is(name, name_len, globals[i].name)) {
            return push(m, (value){.kind = KIND_GLOBAL, .global = &globals[i]});
        }
    }
    if (module_len <= 100 && name_len <= 100 && sky_check_name("global", (const char *)module, module_len) == SKY_OK &&
        sky_check_name("global", (const char *)name, name_len) == SKY_OK) {
        return sky_fail(SKY_ERR_INPUT, "pickle: at byte %zu: it wants %.*s.%.*s, which is not needed for weights",
                        m->at, (int)module_len, (const char *)module, (int)name_len, (const char *)name);
    }
    return refuse(m, "it wants something that is not needed for weights");
}

static sky_status do_persistent_id(machine *m)
{
    value id = {0};
    SKY_TRY(pop(m, &id));
    const value *part = id.kind == KIND_TUPLE ? id.items : NULL;
    if (part == NULL || id.len != 5 || part[0].kind != KIND_STRING || part[0].len != strlen("storage") ||
        memcmp(part[0].text, "storage", part[0].len) != 0 || part[1].kind != KIND_GLOBAL ||
        part[1].global->kind != GLOBAL_STORAGE || part[2].kind != KIND_STRING || part[3].kind != KIND_STRING ||
        part[4].kind != KIND_INT || part[4].number < 0) {
        return refuse(m, "want a persistent id ('storage', class, key, location, length)");
    }
    void *block = NULL;
    SKY_TRY(object_alloc(m, sizeof(storage), &block));
    storage *s = block;
    *s = (storage){.numel = (uint64_t)part[4].number, .dtype = part[1].global->dtype};
    SKY_TRY(m->visitor->storage(m->visitor->user, part[2].text, part[2].len, s->dtype, s->numel, &s->index));
    return push(m, (value){.kind = KIND_STORAGE, .storage = s});
}

/* (storage, offset, size, stride, ...) -> a tensor whose elements are known to lie in the storage, without gaps */
static sky_status rebuild_tensor(machine *m, const value *args)
{
    const value *size = &args[2];
    const value *stride = &args[3];
    if (args[0].kind != KIND_STORAGE || args[1].kind != KIND_INT || args[1].number < 0 || size->kind != KIND_TUPLE ||
        stride->kind != KIND_TUPLE || size->len != stride->len) {
        return refuse(m, "a tensor's storage, offset, size or stride is wrong");
    }
    if (size->len > SKY_MAX_DIMS) {
        return refuse(m, "a tensor has too many dimensions");
    }
    void *block = NULL;
    SKY_TRY(object_alloc(m, sizeof(sky_pickle_tensor), &block));
    sky_pickle_tensor *t = block;
    *t = (sky_pickle_tensor){.storage = args[0].storage->index,
                             .dtype = args[0].storage->dtype,
                             .num_dims = (int)size->len,
                             .first = (uint64_t)args[1].number};
    for (int d = 0; d < t->num_dims; d++) {
        if (size->items[d].kind != KIND_INT || stride->items[d].kind != KIND_INT) {
            return refuse(m, "a tensor's size or stride is no number");
        }
        t->shape[d] = size->items[d].number;
    }
    uint64_t end = 0;
    if (!sky_shape_count(t->num_dims, t->shape, &t->count) || !sky_checked_add(t->first, t->count, &end)) {
        return refuse(m, "a tensor's size is negative or too large");
    }
    int64_t want = 1;
    for (int d = t->num_dims - 1; d >= 0 && t->count > 0; d--) {
        if (t->shape[d] != 1 && stride->items[d].number != want) {
            return refuse(m, "a tensor that is not contiguous (save it with .contiguous())");
        }
        want *= t->shape[d]; /* at most count */
    }
    if (end > args[0].storage->numel) {
        return refuse(m, "a tensor reaches beyond its storage");
    }
    return push(m, (value){.kind = KIND_TENSOR, .tensor = t});
}

static sky_status do_reduce(machine *m)
{
    value args = {0};
    value function = {0};
    SKY_TRY(pop(m, &args));
    SKY_TRY(pop(m, &function));
    if (function.kind != KIND_GLOBAL || args.kind != KIND_TUPLE) {
        return refuse(m, "REDUCE of something that is no function of the table");
    }
    const value *arg = args.items;
    switch (function.global->kind) {
    case GLOBAL_REBUILD_TENSOR:
        if (args.len == 4) {
            return rebuild_tensor(m, arg);
        }
        break;
    case GLOBAL_REBUILD_TENSOR_V2:
        if ((args.len == 6 || (args.len == 7 && (is_dict(&arg[6]) || arg[6].kind == KIND_NONE))) &&
            arg[4].kind == KIND_BOOL && is_dict(&arg[5]) && arg[5].dict->num_items == 0) {
            return rebuild_tensor(m, arg);
        }
        break;
    case GLOBAL_REBUILD_PARAMETER:
        if (args.len == 3 && arg[0].kind == KIND_TENSOR && arg[1].kind == KIND_BOOL && is_dict(&arg[2]) &&
            arg[2].dict->num_items == 0) {
            return push(m, arg[0]);
        }
        break;
    case GLOBAL_ORDERED_DICT:
        if (args.len == 0) {
            return push_dict(m, KIND_ORDERED_DICT);
        }
        break;
    case GLOBAL_SIZE:
        if (args.len == 1 && arg[0].kind == KIND_TUPLE) {
            return push(m, arg[0]);
        }
        break;
    case GLOBAL_STORAGE:
        break;
    }
    return refuse(m, "REDUCE with arguments that do not fit");
}

static sky_status do_put(machine *m, int index_bytes)
{
    uint64_t index = 0;
    SKY_TRY(take_number(m, index_bytes, &index));
    if (m->stack_len == 0 || m->stack[m->stack_len - 1].kind == KIND_MARK || index >= MAX_MEMO) {
        return refuse(m, "nothing to put into the memo, or too high a number");
    }
    if (index >= m->memo_capacity) {
        SKY_TRY(grow(m, &m->memo, &m->memo_capacity, (size_t)index + 1, MAX_MEMO));
    }
    m->memo[index] = m->stack[m->stack_len - 1];
    return SKY_OK;
}

static sky_status do_get(machine *m, int index_bytes)
{
    uint64_t index = 0;
    SKY_TRY(take_number(m, index_bytes, &index));
    if (index >= m->memo_capacity || m->memo[index].kind == KIND_UNSET) {
        return refuse(m, "a number of the memo that was never put");
    }
    return push(m, m->memo[index]);
}

static sky_status step(machine *m, unsigned op)
{
    const unsigned char *bytes = NULL;
    const value *items = NULL;
    size_t num_items = 0;
    uint64_t number = 0;
    value dropped = {0};
    switch (op) {
    case OP_MARK:
        return push(m, (value){.kind = KIND_MARK});
    case OP_NONE:
        return push(m, (value){.kind = KIND_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return push(m, (value){.kind = KIND_BOOL, .number = op == OP_NEWTRUE});
    case OP_BINFLOAT:
        SKY_TRY(take(m, 8, &bytes));
        return push(m, (value){.kind = KIND_FLOAT});
    case OP_BININT:
        return do_signed(m, 4);
    case OP_BININT1:
        SKY_TRY(take_number(m, 1, &number));
        return push_int(m, (int64_t)number);
    case OP_BININT2:
        SKY_TRY(take_number(m, 2, &number));
        return push_int(m, (int64_t)number);
    case OP_LONG1:
        SKY_TRY(take_number(m, 1, &number));
        return do_signed(m, (int)number);
    case OP_BINUNICODE:
        return do_unicode(m);
    case OP_EMPTY_TUPLE:
        return do_tuple(m, NULL, 0);
    case OP_TUPLE:
        SKY_TRY(pop_to_mark(m, &items, &num_items));
        return do_tuple(m, items, num_items);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return do_short_tuple(m, op - OP_TUPLE1 + 1);
    case OP_EMPTY_LIST:
        return push(m, (value){.kind = KIND_LIST});
    case OP_APPEND:
        SKY_TRY(pop(m, &dropped));
        return check_append(m);
    case OP_APPENDS:
        SKY_TRY(pop_to_mark(m, &items, &num_items));
        return check_append(m);
    case OP_EMPTY_DICT:
        return push_dict(m, KIND_DICT);
    case OP_SETITEM:
        return do_setitem(m);
    case OP_SETITEMS:
        SKY_TRY(pop_to_mark(m, &items, &num_items));
        return set_items(m, items, num_items);
    case OP_GLOBAL:
        return do_global(m);
    case OP_REDUCE:
        return do_reduce(m);
    case OP_BUILD:
        return do_build(m);
    case OP_BINPERSID:
        return do_persistent_id(m);
    case OP_BINPUT:
        return do_put(m, 1);
    case OP_LONG_BINPUT:
        return do_put(m, 4);
    case OP_BINGET:
        return do_get(m, 1);
    case OP_LONG_BINGET:
        return do_get(m, 4);
    default:
        return sky_fail(SKY_ERR_INPUT, "pickle: at byte %zu: opcode 0x%02x is not needed for weights", m->at, op);
    }
}

/* Runs the whole pickle and leaves its value. */
static sky_status run(machine *m, value *result)
{
    const unsigned char *op = NULL;
    SKY_TRY(take(m, 2, &op));
    if (op[0] != OP_PROTO || op[1] != 2) {
        return refuse(m, "want a pickle of protocol 2, which torch.save() writes");
    }
    for (uint64_t steps = 0;; steps++) {
        SKY_TRY(take(m, 1, &op));
        if (*op == OP_STOP) {
            break;
        }
        if (steps >= MAX_STEPS) {
            return refuse(m, "too many steps");
        }
        SKY_TRY(step(m, *op));
    }
    SKY_TRY(pop(m, result));
    if (m->stack_len != 0 || m->at != m->len) {
        return refuse(m, "it ends with something left over");
    }
    return SKY_OK;
}

static uint64_t count_tensors(const dict *d)
{
    uint64_t count = 0;
    for (const dict_item *item = d->first; item != NULL; item = item->next) {
        count += item->value->kind == KIND_TENSOR;
    }
    return count;
}

/* The dict of tensors: the value itself, or the one that training scripts wrap it in. */
static const dict *find_state_dict(const value *root)
{
    if (!is_dict(root)) {
        return NULL;
    }
    if (count_tensors(root->dict) > 0) {
        return root->dict;
    }
    for (const dict_item *item = root->dict->first; item != NULL; item = item->next) {
        const unsigned char *key = (const unsigned char *)item->key;
        if ((line_is(key, item->key_len, "state_dict") || line_is(key, item->key_len, "model")) &&
            is_dict(item->value) && count_tensors(item->value->dict) > 0) {
            return item->value->dict;
        }
    }
    return NULL;
}

static sky_status hand_over(const dict *d, const sky_pickle_visitor *visitor)
{
    SKY_TRY(visitor->begin(visitor->user, count_tensors(d)));
    for (const dict_item *item = d->first; item != NULL; item = item->next) {
        if (item->value->kind == KIND_TENSOR) {
            sky_pickle_tensor t = *item->value->tensor;
            t.name = item->key;
            t.name_len = item->key_len;
            SKY_TRY(visitor->tensor(visitor->user, &t));
        }
    }
    return SKY_OK;
}

sky_status sky_pickle_read(const unsigned char *data, size_t len, sky_budget *budget, const sky_pickle_visitor *visitor)
{
    machine m = {.data = data, .len = len, .budget = budget, .visitor = visitor};
    value root = {0};
    sky_status st = run(&m, &root);
    if (st == SKY_OK) {
        const dict *d = find_state_dict(&root);
        st = d != NULL ? hand_over(d, visitor) : sky_fail(SKY_ERR_INPUT, "pickle: it holds no dict of tensors");
    }
    while (m.chunks != NULL) {
        chunk *next = m.chunks->next;
        sky_budget_free(budget, m.chunks, m.chunks->bytes);
        m.chunks = next;
    }
    sky_budget_free(budget, m.stack, m.stack_capacity * sizeof *m.stack);
    sky_budget_free(budget, m.memo, m.memo_capacity * sizeof *m.memo);
    return st;
}
