/* Input: the length of the data as 4 bytes, then the header's text. */
#include "fuzz.h"
#include "weights/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t data_bytes = 0;
    if (size < sizeof data_bytes) {
        return 0;
    }
    memcpy(&data_bytes, data, sizeof data_bytes);
    const size_t len = size - sizeof data_bytes;
    const uint64_t start = 8 + len;
    sky_directory directory = {0};
    sky_budget budget = {.left_bytes = SKY_BUDGET_BASE_BYTES / 2};
    const sky_status st =
        sky_safetensors_parse((const char *)data + sizeof data_bytes, len, start, data_bytes, &budget, &directory);
    FUZZ_CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
    uint64_t next = start;
    for (int64_t i = 0; st == SKY_OK && i < directory.count; i++) { /* in order of offset, without holes */
        const sky_source_tensor *t = &directory.tensors[i];
        unsigned __int128 want = sky_dtype_bytes(t->dtype);
        FUZZ_CHECK(t->num_dims >= 0 && t->num_dims <= SKY_MAX_DIMS && t->offset_bytes == next);
        for (int d = 0; d < t->num_dims; d++) {
            FUZZ_CHECK(t->shape[d] >= 0);
            if (t->shape[d] == 0) {
                want = 0;
                break;
            }
            want *= (uint64_t)t->shape[d];
            FUZZ_CHECK(want >> 64 == 0);
        }
        FUZZ_CHECK(want == t->len_bytes);
        next += t->len_bytes;
    }
    FUZZ_CHECK(st != SKY_OK || next == start + data_bytes);
    sky_directory_release(&directory);
    return 0;
}
