/*
 * weights/torch_pickle.h - the pickle in a torch file, read as data
 *
 * A pickle is a program for a stack machine that builds objects by calling what it names. Here its instructions
 * (protocol 2 only, those that torch.save() writes for a state dict) build values of a few fixed kinds, and the names
 * are looked up in a fixed table of about fifteen entries. There is no way from a name in the file to a call of anything.
 * What is not in the tables is refused. No recursion; stack, memo, steps and memory are limited.
 *
 * Source: Python's Lib/pickletools.py, torch/_utils.py and torch/serialization.py.
 */
#ifndef SKY_WEIGHTS_TORCH_PICKLE_H
#define SKY_WEIGHTS_TORCH_PICKLE_H

#include "weights/directory.h"

typedef struct sky_pickle_tensor {
    const char *name; /* name_len bytes of the pickle, not terminated, not checked */
    size_t name_len;
    int64_t storage; /* as sky_pickle_visitor.storage returned it */
    sky_dtype dtype;
    int num_dims;
    int64_t shape[SKY_MAX_DIMS];
    uint64_t first; /* element of the storage */
    uint64_t count; /* elements, contiguous, all inside of the storage */
} sky_pickle_tensor;

typedef struct sky_pickle_visitor {
    void *user;
    /* A storage is named: numel elements under a key (not terminated). Called each time it is named. */
    sky_status (*storage)(void *user, const char *key, size_t key_len, sky_dtype dtype, uint64_t numel, int64_t *index);
    /* After the whole pickle was read: the number of tensors, then each, in the pickle's order. */
    sky_status (*begin)(void *user, uint64_t num_tensors);
    sky_status (*tensor)(void *user, const sky_pickle_tensor *tensor);
} sky_pickle_visitor;

/*
 * Reads a state dict: a dict of tensors by name, or a dict whose "state_dict" or "model" is one. Values that are no
 * tensors are ignored. Errors: INPUT, NOMEM, and what the visitor returns.
 */
sky_status sky_pickle_read(const unsigned char *data, size_t len, sky_budget *budget,
                           const sky_pickle_visitor *visitor);

#endif
