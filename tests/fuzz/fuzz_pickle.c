/* Input: a pickle. Storages "0" to "9" have 16 to 160 bytes. */
#include "fuzz.h"
#include "weights/torch_pickle.h"

static sky_status on_storage(void *user, const char *key, size_t len, sky_dtype dtype, uint64_t numel, int64_t *index)
{
    (void)user;
    if (len != 1 || *key < '0' || *key > '9' || numel > 160 ||
        numel * sky_dtype_bytes(dtype) != 16U * (unsigned)(*key - '0' + 1)) {
        return sky_fail(SKY_ERR_INPUT, "no such storage");
    }
    *index = *key - '0';
    return SKY_OK;
}

static sky_status on_begin(void *user, uint64_t num_tensors)
{
    *(uint64_t *)user = num_tensors;
    return SKY_OK;
}

static sky_status on_tensor(void *user, const sky_pickle_tensor *t)
{
    const uint64_t room = 16U * (uint64_t)(t->storage + 1) / sky_dtype_bytes(t->dtype);
    uint64_t count = 1;
    for (int d = 0; d < t->num_dims; d++) {
        FUZZ_CHECK(t->shape[d] >= 0);
        count = t->shape[d] == 0 ? 0 : count * (uint64_t)t->shape[d];
    }
    FUZZ_CHECK(t->num_dims <= SKY_MAX_DIMS && (count == t->count || t->count == 0));
    FUZZ_CHECK(t->first <= room && t->count <= room - t->first);
    FUZZ_CHECK((*(uint64_t *)user)-- > 0);
    return t->name_len > 0 && t->name[0] == '!' ? sky_fail(SKY_ERR_INPUT, "not wanted") : SKY_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t left = 0;
    sky_budget budget = {.left_bytes = SKY_BUDGET_BASE_BYTES + 2 * size};
    const sky_pickle_visitor visitor = {.user = &left, .storage = on_storage, .begin = on_begin, .tensor = on_tensor};
    const sky_status st = sky_pickle_read(data, size, &budget, &visitor);
    FUZZ_CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
    FUZZ_CHECK(st != SKY_OK || left == 0);
    FUZZ_CHECK(budget.left_bytes == SKY_BUDGET_BASE_BYTES + 2 * size);
    return 0;
}
