/* Reading a tensor at once, on the calling thread: a stream of one piece. */
#include "weights/source_impl.h"
#include "weights/stream.h"

static sky_status read_all(const sky_source *source, const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype)
{
    sky_status st = SKY_OK;
    sky_readers *readers = NULL;
    sky_stream stream;
    SKY_TRY(sky_readers_create(1, &readers));
    SKY_TRY_GOTO(sky_stream_begin(&stream, readers, source, tensor, dst_dtype));
    SKY_TRY_GOTO(sky_stream_next(&stream, tensor->len_bytes / sky_dtype_bytes(tensor->dtype), dst));
    SKY_TRY_GOTO(sky_stream_end(&stream));
done:
    sky_readers_destroy(&readers);
    return st;
}

sky_status sky_source_read(const sky_source *source, const sky_source_tensor *tensor, void *dst, sky_dtype dst_dtype)
{
    if (dst_dtype == SKY_F8_E4M3 || dst_dtype == SKY_I8) {
        return sky_fail(SKY_ERR_DTYPE, "%.200s: wanted as %s; only f32, bf16 and f16 are offered", tensor->name,
                        sky_dtype_name(dst_dtype));
    }
    return read_all(source, tensor, dst, dst_dtype);
}

sky_status sky_source_read_part(const sky_source *source, const sky_source_tensor *tensor, uint64_t first,
                                uint64_t count, void *dst, sky_dtype dst_dtype)
{
    const uint64_t len = tensor->len_bytes / sky_dtype_bytes(tensor->dtype);
    SKY_ASSERT(first <= len && count <= len - first);
    if (count == len) {
        return sky_source_read(source, tensor, dst, dst_dtype);
    }
    sky_status st = SKY_OK;
    sky_readers *readers = NULL;
    sky_stream stream;
    SKY_TRY(sky_readers_create(1, &readers));
    SKY_TRY_GOTO(sky_stream_begin_part(&stream, readers, source, tensor, dst_dtype, first));
    SKY_TRY_GOTO(sky_stream_next(&stream, count, dst));
done:
    sky_readers_destroy(&readers);
    return st;
}

sky_status sky_source_read_codes(const sky_source *source, const sky_source_tensor *tensor, void *dst)
{
    const bool codes = tensor->dtype == SKY_F8_E4M3 || tensor->dtype == SKY_I8;
    return read_all(source, tensor, dst, codes ? tensor->dtype : SKY_I8);
}
