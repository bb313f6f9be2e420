#include "weights/torch_pickle_impl.h"

#include "base/checked.h"

#include <string.h>

/* ---- names ---- */

typedef enum known_kind {
    KNOWN_REBUILD_TENSOR,
    KNOWN_REBUILD_TENSOR_V2,
    KNOWN_REBUILD_PARAMETER,
    KNOWN_ORDERED_DICT,
    KNOWN_SIZE,
    KNOWN_STORAGE,
} known_kind;

/* Nothing else can be named: there is no way from a text in the file to any other meaning. */
struct pickle_known {
    const char *module;
    const char *name;
    known_kind kind;
    sky_dtype dtype; /* of a storage */
};

static const pickle_known known_names[] = {
    {"torch._utils", "_rebuild_tensor_v2", KNOWN_REBUILD_TENSOR_V2, SKY_F32},
    {"torch._utils", "_rebuild_tensor", KNOWN_REBUILD_TENSOR, SKY_F32},
    {"torch._utils", "_rebuild_parameter", KNOWN_REBUILD_PARAMETER, SKY_F32},
    {"collections", "OrderedDict", KNOWN_ORDERED_DICT, SKY_F32},
    {"torch", "Size", KNOWN_SIZE, SKY_F32},
    {"torch", "FloatStorage", KNOWN_STORAGE, SKY_F32},
    {"torch", "DoubleStorage", KNOWN_STORAGE, SKY_F64},
    {"torch", "HalfStorage", KNOWN_STORAGE, SKY_F16},
    {"torch", "BFloat16Storage", KNOWN_STORAGE, SKY_BF16},
    {"torch", "LongStorage", KNOWN_STORAGE, SKY_I64},
    {"torch", "IntStorage", KNOWN_STORAGE, SKY_I32},
    {"torch", "ShortStorage", KNOWN_STORAGE, SKY_I16},
    {"torch", "CharStorage", KNOWN_STORAGE, SKY_I8},
    {"torch", "ByteStorage", KNOWN_STORAGE, SKY_U8},
    {"torch", "BoolStorage", KNOWN_STORAGE, SKY_BOOL},
};

sky_status sky_pickle_do_global(pickle_machine *m)
{
    const char *module = NULL;
    const char *name = NULL;
    size_t module_len = 0;
    size_t name_len = 0;
    SKY_TRY(sky_pickle_take_line(m, &module, &module_len));
    SKY_TRY(sky_pickle_take_line(m, &name, &name_len));
    for (size_t i = 0; i < sizeof known_names / sizeof known_names[0]; i++) {
        if (sky_pickle_text_is(module, module_len, known_names[i].module) &&
            sky_pickle_text_is(name, name_len, known_names[i].name)) {
            return sky_pickle_push(m, (pickle_value){.kind = PICKLE_GLOBAL, .known = &known_names[i]});
        }
    }
    if (module_len <= 100 && name_len <= 100 && sky_check_name("global", module, module_len) == SKY_OK &&
        sky_check_name("global", name, name_len) == SKY_OK) {
        return sky_fail(
            SKY_ERR_INPUT,
            "pickle: at byte %zu: it wants %.*s.%.*s, which is not needed for weights (save the tensors alone: "
            "torch.save(model.state_dict(), path))",
            m->at, (int)module_len, module, (int)name_len, name);
    }
    return sky_pickle_refuse(m, "it wants something that is not needed for weights");
}

/* ---- storages and tensors ---- */

sky_status sky_pickle_do_persistent_id(pickle_machine *m)
{
    pickle_value id = {0};
    SKY_TRY(sky_pickle_pop(m, &id));
    const pickle_value *part = id.kind == PICKLE_TUPLE ? id.items : NULL;
    if (part == NULL || id.len != 5 || part[0].kind != PICKLE_STRING ||
        !sky_pickle_text_is(part[0].text, part[0].len, "storage") || part[1].kind != PICKLE_GLOBAL ||
        part[1].known->kind != KNOWN_STORAGE || part[2].kind != PICKLE_STRING || part[3].kind != PICKLE_STRING ||
        part[4].kind != PICKLE_INT || part[4].number < 0) {
        return sky_pickle_refuse(m, "want a persistent id ('storage', class, key, location, length)");
    }
    void *block = NULL;
    SKY_TRY(sky_pickle_alloc(m, sizeof(pickle_storage), &block));
    pickle_storage *s = block;
    *s = (pickle_storage){.numel = (uint64_t)part[4].number, .dtype = part[1].known->dtype};
    SKY_TRY(m->visitor->storage(m->visitor->user, part[2].text, part[2].len, s->dtype, s->numel, &s->index));
    return sky_pickle_push(m, (pickle_value){.kind = PICKLE_STORAGE, .storage = s});
}

/* (storage, offset, size, stride, ...) -> a tensor whose elements are known to lie in the storage, without gaps */
static sky_status rebuild_tensor(pickle_machine *m, const pickle_value *args)
{
    const pickle_value *size = &args[2];
    const pickle_value *stride = &args[3];
    if (args[0].kind != PICKLE_STORAGE || args[1].kind != PICKLE_INT || args[1].number < 0 ||
        size->kind != PICKLE_TUPLE || stride->kind != PICKLE_TUPLE || size->len != stride->len) {
        return sky_pickle_refuse(m, "a tensor's storage, offset, size or stride is wrong");
    }
    if (size->len > SKY_MAX_DIMS) {
        return sky_pickle_refuse(m, "a tensor has too many dimensions");
    }
    void *block = NULL;
    SKY_TRY(sky_pickle_alloc(m, sizeof(sky_pickle_tensor), &block));
    sky_pickle_tensor *t = block;
    *t = (sky_pickle_tensor){.storage = args[0].storage->index,
                             .dtype = args[0].storage->dtype,
                             .num_dims = (int)size->len,
                             .first = (uint64_t)args[1].number};
    for (int d = 0; d < t->num_dims; d++) {
        if (size->items[d].kind != PICKLE_INT || stride->items[d].kind != PICKLE_INT) {
            return sky_pickle_refuse(m, "a tensor's size or stride is no number");
        }
        t->shape[d] = size->items[d].number;
    }
    uint64_t end = 0;
    if (!sky_shape_count(t->num_dims, t->shape, &t->count) || !sky_checked_add(t->first, t->count, &end)) {
        return sky_pickle_refuse(m, "a tensor's size is negative or too large");
    }
    int64_t want = 1;
    for (int d = t->num_dims - 1; d >= 0 && t->count > 0; d--) {
        if (t->shape[d] != 1 && stride->items[d].number != want) {
            return sky_pickle_refuse(m, "a tensor that is not contiguous (save it with .contiguous())");
        }
        want *= t->shape[d]; /* at most count */
    }
    if (end > args[0].storage->numel) {
        return sky_pickle_refuse(m, "a tensor reaches beyond its storage");
    }
    return sky_pickle_push(m, (pickle_value){.kind = PICKLE_TENSOR, .tensor = t});
}

/* ---- dicts ---- */

sky_status sky_pickle_push_dict(pickle_machine *m, pickle_kind kind)
{
    void *block = NULL;
    SKY_TRY(sky_pickle_alloc(m, sizeof(pickle_dict), &block));
    pickle_dict *d = block;
    *d = (pickle_dict){0};
    return sky_pickle_push(m, (pickle_value){.kind = kind, .dict = d});
}

bool sky_pickle_is_dict(const pickle_value *v)
{
    return v->kind == PICKLE_DICT || v->kind == PICKLE_ORDERED_DICT;
}

static sky_status set_item(pickle_machine *m, pickle_dict *d, const pickle_value *key, const pickle_value *item)
{
    if (key->kind != PICKLE_STRING && key->kind != PICKLE_INT) {
        return sky_pickle_refuse(m, "a key that is neither a string nor a number");
    }
    d->num_items++;
    if (key->kind != PICKLE_STRING || (item->kind != PICKLE_TENSOR && !sky_pickle_is_dict(item))) {
        return SKY_OK;
    }
    void *block = NULL;
    SKY_TRY(sky_pickle_alloc(m, sizeof(pickle_item) + sizeof(pickle_value), &block));
    pickle_item *entry = block;
    pickle_value *copy = (pickle_value *)(entry + 1);
    *copy = *item;
    *entry = (pickle_item){.key = key->text, .key_len = key->len, .value = copy};
    *(d->last != NULL ? &d->last->next : &d->first) = entry;
    d->last = entry;
    return SKY_OK;
}

sky_status sky_pickle_set_items(pickle_machine *m, const pickle_value *items, size_t num_items)
{
    const pickle_value *target = sky_pickle_top(m);
    if (target == NULL || !sky_pickle_is_dict(target)) {
        return sky_pickle_refuse(m, "SETITEM on something that is no dict");
    }
    if (num_items % 2 != 0) {
        return sky_pickle_refuse(m, "a key without a value");
    }
    for (size_t i = 0; i < num_items; i += 2) {
        SKY_TRY(set_item(m, target->dict, &items[i], &items[i + 1]));
    }
    return SKY_OK;
}

sky_status sky_pickle_do_build(pickle_machine *m)
{
    pickle_value state = {0};
    SKY_TRY(sky_pickle_pop(m, &state));
    const pickle_value *target = sky_pickle_top(m);
    const pickle_item *item = state.kind == PICKLE_DICT ? state.dict->first : NULL;
    if (target == NULL || target->kind != PICKLE_ORDERED_DICT || item == NULL || state.dict->num_items != 1 ||
        !sky_pickle_text_is(item->key, item->key_len, "_metadata") || !sky_pickle_is_dict(item->value)) {
        return sky_pickle_refuse(m, "BUILD of something other than an OrderedDict's _metadata");
    }
    return SKY_OK;
}

/* ---- calls ---- */

sky_status sky_pickle_do_reduce(pickle_machine *m)
{
    pickle_value args = {0};
    pickle_value function = {0};
    SKY_TRY(sky_pickle_pop(m, &args));
    SKY_TRY(sky_pickle_pop(m, &function));
    if (function.kind != PICKLE_GLOBAL || args.kind != PICKLE_TUPLE) {
        return sky_pickle_refuse(m, "REDUCE of something that is no function of the table");
    }
    const pickle_value *arg = args.items;
    switch (function.known->kind) {
    case KNOWN_REBUILD_TENSOR:
        if (args.len == 4) {
            return rebuild_tensor(m, arg);
        }
        break;
    case KNOWN_REBUILD_TENSOR_V2:
        if ((args.len == 6 || (args.len == 7 && (sky_pickle_is_dict(&arg[6]) || arg[6].kind == PICKLE_NONE))) &&
            arg[4].kind == PICKLE_BOOL && sky_pickle_is_dict(&arg[5]) && arg[5].dict->num_items == 0) {
            return rebuild_tensor(m, arg);
        }
        break;
    case KNOWN_REBUILD_PARAMETER:
        if (args.len == 3 && arg[0].kind == PICKLE_TENSOR && arg[1].kind == PICKLE_BOOL &&
            sky_pickle_is_dict(&arg[2]) && arg[2].dict->num_items == 0) {
            return sky_pickle_push(m, arg[0]);
        }
        break;
    case KNOWN_ORDERED_DICT:
        if (args.len == 0) {
            return sky_pickle_push_dict(m, PICKLE_ORDERED_DICT);
        }
        break;
    case KNOWN_SIZE:
        if (args.len == 1 && arg[0].kind == PICKLE_TUPLE) {
            return sky_pickle_push(m, arg[0]);
        }
        break;
    case KNOWN_STORAGE:
        break;
    }
    return sky_pickle_refuse(m, "REDUCE with arguments that do not fit");
}
