#include "weights/torch_pickle_impl.h"

#include <string.h>

#define MAX_STEPS UINT64_C(50000000)

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

static sky_status push_int(pickle_machine *m, int64_t number)
{
    return sky_pickle_push(m, (pickle_value){.kind = PICKLE_INT, .number = number});
}

/* A two's complement number of `bytes` bytes. */
static sky_status do_signed(pickle_machine *m, int bytes)
{
    uint64_t bits = 0;
    if (bytes > 8) {
        return sky_pickle_refuse(m, "a number of more than 64 bits");
    }
    SKY_TRY(sky_pickle_take_number(m, bytes, &bits));
    if (bytes > 0 && bytes < 8 && (bits >> (8 * bytes - 1) & 1) != 0) {
        bits |= ~UINT64_C(0) << (8 * bytes);
    }
    int64_t number;
    memcpy(&number, &bits, sizeof number);
    return push_int(m, number);
}

static sky_status do_unicode(pickle_machine *m)
{
    uint64_t len = 0;
    const unsigned char *text = NULL;
    SKY_TRY(sky_pickle_take_number(m, 4, &len));
    SKY_TRY(sky_pickle_take(m, len, &text));
    return sky_pickle_push(m, (pickle_value){.kind = PICKLE_STRING, .len = (uint32_t)len, .text = (const char *)text});
}

static sky_status do_tuple(pickle_machine *m, const pickle_value *items, size_t num_items)
{
    void *block = NULL;
    if (num_items > 0) {
        SKY_TRY(sky_pickle_alloc(m, num_items * sizeof *items, &block));
        memcpy(block, items, num_items * sizeof *items);
    }
    return sky_pickle_push(m, (pickle_value){.kind = PICKLE_TUPLE, .len = (uint32_t)num_items, .items = block});
}

static sky_status do_short_tuple(pickle_machine *m, size_t num_items)
{
    pickle_value items[3] = {0};
    for (size_t i = num_items; i > 0; i--) {
        SKY_TRY(sky_pickle_pop(m, &items[i - 1]));
    }
    return do_tuple(m, items, num_items);
}

static sky_status do_setitem(pickle_machine *m)
{
    pickle_value pair[2] = {0};
    SKY_TRY(sky_pickle_pop(m, &pair[1]));
    SKY_TRY(sky_pickle_pop(m, &pair[0]));
    return sky_pickle_set_items(m, pair, 2);
}

static sky_status check_append(const pickle_machine *m)
{
    const pickle_value *top = sky_pickle_top(m);
    return top != NULL && top->kind == PICKLE_LIST ? SKY_OK
                                                   : sky_pickle_refuse(m, "APPEND on something that is no list");
}

static sky_status do_put(pickle_machine *m, int index_bytes)
{
    uint64_t index = 0;
    SKY_TRY(sky_pickle_take_number(m, index_bytes, &index));
    return sky_pickle_memo_put(m, index);
}

static sky_status do_get(pickle_machine *m, int index_bytes)
{
    uint64_t index = 0;
    SKY_TRY(sky_pickle_take_number(m, index_bytes, &index));
    return sky_pickle_memo_get(m, index);
}

static sky_status step(pickle_machine *m, unsigned op)
{
    const unsigned char *bytes = NULL;
    const pickle_value *items = NULL;
    size_t num_items = 0;
    uint64_t number = 0;
    pickle_value dropped = {0};
    switch (op) {
    case OP_MARK:
        return sky_pickle_push(m, (pickle_value){.kind = PICKLE_MARK});
    case OP_NONE:
        return sky_pickle_push(m, (pickle_value){.kind = PICKLE_NONE});
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        return sky_pickle_push(m, (pickle_value){.kind = PICKLE_BOOL, .number = op == OP_NEWTRUE});
    case OP_BINFLOAT:
        SKY_TRY(sky_pickle_take(m, 8, &bytes));
        return sky_pickle_push(m, (pickle_value){.kind = PICKLE_FLOAT});
    case OP_BININT:
        return do_signed(m, 4);
    case OP_BININT1:
        SKY_TRY(sky_pickle_take_number(m, 1, &number));
        return push_int(m, (int64_t)number);
    case OP_BININT2:
        SKY_TRY(sky_pickle_take_number(m, 2, &number));
        return push_int(m, (int64_t)number);
    case OP_LONG1:
        SKY_TRY(sky_pickle_take_number(m, 1, &number));
        return do_signed(m, (int)number);
    case OP_BINUNICODE:
        return do_unicode(m);
    case OP_EMPTY_TUPLE:
        return do_tuple(m, NULL, 0);
    case OP_TUPLE:
        SKY_TRY(sky_pickle_pop_to_mark(m, &items, &num_items));
        return do_tuple(m, items, num_items);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        return do_short_tuple(m, op - OP_TUPLE1 + 1);
    case OP_EMPTY_LIST:
        return sky_pickle_push(m, (pickle_value){.kind = PICKLE_LIST});
    case OP_APPEND:
        SKY_TRY(sky_pickle_pop(m, &dropped));
        return check_append(m);
    case OP_APPENDS:
        SKY_TRY(sky_pickle_pop_to_mark(m, &items, &num_items));
        return check_append(m);
    case OP_EMPTY_DICT:
        return sky_pickle_push_dict(m, PICKLE_DICT);
    case OP_SETITEM:
        return do_setitem(m);
    case OP_SETITEMS:
        SKY_TRY(sky_pickle_pop_to_mark(m, &items, &num_items));
        return sky_pickle_set_items(m, items, num_items);
    case OP_GLOBAL:
        return sky_pickle_do_global(m);
    case OP_REDUCE:
        return sky_pickle_do_reduce(m);
    case OP_BUILD:
        return sky_pickle_do_build(m);
    case OP_BINPERSID:
        return sky_pickle_do_persistent_id(m);
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
static sky_status run(pickle_machine *m, pickle_value *result)
{
    const unsigned char *op = NULL;
    SKY_TRY(sky_pickle_take(m, 2, &op));
    if (op[0] != OP_PROTO || op[1] != 2) {
        return sky_pickle_refuse(m, "want a pickle of protocol 2, which torch.save() writes");
    }
    for (uint64_t steps = 0;; steps++) {
        SKY_TRY(sky_pickle_take(m, 1, &op));
        if (*op == OP_STOP) {
            break;
        }
        if (steps >= MAX_STEPS) {
            return sky_pickle_refuse(m, "too many steps");
        }
        SKY_TRY(step(m, *op));
    }
    SKY_TRY(sky_pickle_pop(m, result));
    if (m->stack_len != 0 || m->at != m->len) {
        return sky_pickle_refuse(m, "it ends with something left over");
    }
    return SKY_OK;
}

/* ---- the state dict ---- */

static uint64_t count_tensors(const pickle_dict *d)
{
    uint64_t count = 0;
    for (const pickle_item *item = d->first; item != NULL; item = item->next) {
        count += item->value->kind == PICKLE_TENSOR;
    }
    return count;
}

/* The dict of tensors: the value itself, or the one that training scripts wrap it in. */
static const pickle_dict *find_state_dict(const pickle_value *root)
{
    if (!sky_pickle_is_dict(root)) {
        return NULL;
    }
    if (count_tensors(root->dict) > 0) {
        return root->dict;
    }
    for (const pickle_item *item = root->dict->first; item != NULL; item = item->next) {
        if ((sky_pickle_text_is(item->key, item->key_len, "state_dict") ||
             sky_pickle_text_is(item->key, item->key_len, "model")) &&
            sky_pickle_is_dict(item->value) && count_tensors(item->value->dict) > 0) {
            return item->value->dict;
        }
    }
    return NULL;
}

static sky_status hand_over(const pickle_dict *d, const sky_pickle_visitor *visitor)
{
    SKY_TRY(visitor->begin(visitor->user, count_tensors(d)));
    for (const pickle_item *item = d->first; item != NULL; item = item->next) {
        if (item->value->kind == PICKLE_TENSOR) {
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
    pickle_machine m = {.data = data, .len = len, .budget = budget, .visitor = visitor};
    pickle_value root = {0};
    sky_status st = run(&m, &root);
    if (st == SKY_OK) {
        const pickle_dict *d = find_state_dict(&root);
        st = d != NULL
                 ? hand_over(d, visitor)
                 : sky_fail(
                       SKY_ERR_INPUT,
                       "pickle: it holds no dict of tensors (want what torch.save(model.state_dict(), path) writes)");
    }
    sky_pickle_machine_release(&m);
    return st;
}
