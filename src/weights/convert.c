/* The folder that a conversion makes: shards, configurations, tokenizer, and the manifest last. */
#include "weights/convert.h"

#include "base/file.h"
#include "weights/convert_impl.h"
#include "weights/converted.h"
#include "weights/manifest_impl.h"
#include "weights/shard.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

/* Until everything has been read back the manifest has another name, so that the folder does not load. */
#define UNFINISHED_NAME "manifest.json.unfinished"
#define MAX_FILE_BYTES  ((size_t)64 << 20)

static sky_status io_fail(const char *path, const char *action)
{
    char text[128];
    return sky_fail(SKY_ERR_IO, "%s: %s: %s", path, action, strerror_r(errno, text, sizeof text));
}

void sky_convert_report_release(sky_convert_report *report)
{
    free(report->errors);
    *report = (sky_convert_report){0};
}

sky_status sky_convert_tell(conversion *c, sky_convert_phase phase, uint64_t bytes)
{
    c->done_bytes += bytes;
    return c->progress != NULL ? c->progress(c->user, phase, c->done_bytes, c->plan.source_bytes) : SKY_OK;
}

/* ---- before anything is written ---- */

static bool folder_is_empty(const char *path)
{
    bool empty = true;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return true; /* what it is shows when the folder is made */
    }
    for (struct dirent *e = readdir(dir); e != NULL && empty; e = readdir(dir)) {
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    }
    closedir(dir);
    return empty;
}

static sky_status check_output(const sky_convert_settings *s)
{
    struct stat model;
    struct stat output;
    if (stat(s->model_path, &model) == 0 && stat(s->output_path, &output) == 0 && model.st_dev == output.st_dev &&
        model.st_ino == output.st_ino) {
        return sky_fail(SKY_ERR_USAGE, "%s is the model itself: choose another folder for the converted one",
                        s->output_path);
    }
    if (!folder_is_empty(s->output_path)) {
        return sky_fail(SKY_ERR_USAGE, "%s is there already, with files in it: remove it or choose another folder",
                        s->output_path);
    }
    return SKY_OK;
}

static sky_status check_source(const conversion *c)
{
    if (sky_checkpoint_layout(c->checkpoint) == SKY_LAYOUT_CONVERTED) {
        return sky_fail(SKY_ERR_USAGE, "%s is converted already (%s): give the original folder",
                        c->settings->model_path, sky_codes_name(sky_checkpoint_codes(c->checkpoint)));
    }
    return SKY_OK;
}

static sky_status check_space(const conversion *c, const char *folder)
{
    struct statvfs fs;
    uint64_t wanted = (uint64_t)64 << 20;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        wanted += c->report->parts[i].converted_bytes;
    }
    if (statvfs(folder, &fs) != 0) {
        return SKY_OK; /* then it is found out while writing */
    }
    const uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes < wanted) {
        return sky_fail(SKY_ERR_IO,
                        "%s: want %.2f GB of free disk space, there are %.2f GB (free some or choose another folder)",
                        c->settings->output_path, (double)wanted * 1e-9, (double)free_bytes * 1e-9);
    }
    return SKY_OK;
}

/* Room for a piece, or for the longest row of what is quantised. */
static sky_status make_buffers(conversion *c)
{
    uint64_t most = CONVERT_PIECE_BYTES / sizeof(float);
    for (int64_t i = 0; i < c->plan.num_items; i++) {
        const convert_item *item = &c->plan.items[i];
        if (item->quantized && (uint64_t)item->source->shape[1] > most) {
            most = (uint64_t)item->source->shape[1];
        }
    }
    c->values = most < SIZE_MAX / sizeof(float) ? malloc(most * sizeof(float)) : NULL;
    c->pieces = c->values != NULL ? malloc(most * sizeof(float)) : NULL;
    if (c->pieces == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for two rows of %" PRIu64 " values", most);
    }
    return sky_threads_create(c->settings->num_threads, &c->threads);
}

/* ---- tensors ---- */

typedef struct rows_job {
    const conversion *c;
    int64_t rows, cols, step;
    uint8_t *codes;
    float *scale;
} rows_job;

static void quantize_some_rows(void *arg, int64_t index, int thread)
{
    const rows_job *job = arg;
    const int64_t first = index * job->step;
    const int64_t rows = job->rows - first < job->step ? job->rows - first : job->step;
    (void)thread;
    sky_quantize_host_rows(job->c->manifest.codes, rows, job->cols, job->c->values + first * job->cols,
                           job->codes + first * job->cols, job->scale + first);
}

sky_status sky_convert_rows(conversion *c, const convert_item *item, int64_t first, int64_t rows, uint8_t *codes,
                            float *scale)
{
    const int64_t cols = item->source->shape[1];
    SKY_TRY(sky_quantize_read_rows(c->checkpoint, item->component, item->source, first, rows, c->values));
    rows_job job = {.c = c, .rows = rows, .cols = cols, .step = 16, .codes = codes, .scale = scale};
    sky_threads_for(c->threads, (rows + job.step - 1) / job.step, quantize_some_rows, &job);
    return SKY_OK;
}

static sky_status write_quantized(conversion *c, const convert_item *item, sky_shard_writer *writer, int64_t index)
{
    sky_status st = SKY_OK;
    const int64_t rows = item->source->shape[0];
    const int64_t cols = item->source->shape[1];
    const uint64_t row_bytes = item->source->len_bytes / (uint64_t)rows;
    const int64_t block = sky_quantize_block_rows(cols);
    float *scale = malloc((size_t)block * sizeof *scale);
    if (scale == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for %" PRId64 " scales", block);
    }
    for (int64_t first = 0; first < rows; first += block) {
        const int64_t some = rows - first < block ? rows - first : block;
        SKY_TRY_GOTO(sky_convert_rows(c, item, first, some, c->pieces, scale));
        SKY_TRY_GOTO(sky_shard_write(writer, index, c->pieces, (size_t)(some * cols)));
        SKY_TRY_GOTO(sky_shard_write(writer, index + 1, scale, (size_t)some * sizeof *scale));
        SKY_TRY_GOTO(sky_convert_tell(c, SKY_CONVERT_WRITE, (uint64_t)some * row_bytes));
    }
done:
    free(scale);
    return st;
}

static sky_status write_plain(conversion *c, const convert_item *item, sky_shard_writer *writer, int64_t index)
{
    const size_t from_bytes = sky_dtype_bytes(item->source->dtype);
    const uint64_t count = item->source->len_bytes / from_bytes;
    const uint64_t piece = CONVERT_PIECE_BYTES / sizeof(float);
    for (uint64_t first = 0; first < count; first += piece) {
        const uint64_t some = count - first < piece ? count - first : piece;
        SKY_TRY(sky_checkpoint_read_part(c->checkpoint, item->component, item->source, first, some, c->pieces,
                                         item->stored));
        SKY_TRY(sky_shard_write(writer, index, c->pieces, (size_t)some * sky_dtype_bytes(item->stored)));
        SKY_TRY(sky_convert_tell(c, SKY_CONVERT_WRITE, some * from_bytes));
    }
    return SKY_OK;
}

/* Items from *next on that belong to the shard. */
static sky_status write_shard(conversion *c, const char *folder, sky_manifest_shard *shard, int64_t *next)
{
    sky_status st = SKY_OK;
    char *path = NULL;
    sky_shard_writer *writer = NULL;
    SKY_TRY(sky_path_join(folder, shard->name, &path));
    SKY_TRY_GOTO(sky_shard_create(path, c->manifest.codes, &c->manifest.tensors[shard->first], shard->count, &writer));
    for (; *next < c->plan.num_items; ++*next) {
        const convert_item *item = &c->plan.items[*next];
        const int64_t index = item->tensor - shard->first;
        if (index >= shard->count) {
            break;
        }
        SKY_TRY_GOTO(item->quantized ? write_quantized(c, item, writer, index) : write_plain(c, item, writer, index));
    }
    SKY_TRY_GOTO(sky_shard_finish(writer, shard));
    if (shard->len_bytes > c->report->largest_shard_bytes) {
        c->report->largest_shard_bytes = shard->len_bytes;
    }
done:
    sky_shard_destroy(&writer);
    free(path);
    return st;
}

/* ---- other files ---- */

static sky_status save_copy(const char *path, const char *text, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return io_fail(path, "cannot create the file");
    }
    const sky_status st = sky_file_write(fd, path, text, len);
    sky_file_close(&fd);
    return st;
}

/* Copies a file of the model to folder/name and lists it in the manifest. */
static sky_status copy_file(conversion *c, const char *from, const char *folder, const char *name)
{
    sky_status st = SKY_OK;
    sky_manifest *m = &c->manifest;
    char *text = NULL;
    char *to = NULL;
    size_t len = 0;
    if (m->num_files == SKY_MANIFEST_MAX_FILES) {
        return sky_fail(SKY_ERR_INPUT, "%s: more than %d files beside the weights", from, (int)SKY_MANIFEST_MAX_FILES);
    }
    sky_manifest_file *file = &m->files[m->num_files];
    SKY_TRY_GOTO(sky_file_read_all(from, MAX_FILE_BYTES, &text, &len));
    SKY_TRY_GOTO(sky_path_join(folder, name, &to));
    SKY_TRY_GOTO(save_copy(to, text, len));
    file->name = strdup(name);
    if (file->name == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "no memory for a name");
        goto done;
    }
    file->len_bytes = len;
    file->crc32 = (uint32_t)crc32_z(0, (const unsigned char *)text, len);
    m->num_files++;
done:
    free(to);
    free(text);
    return st;
}

static sky_status make_folder(const char *folder, const char *name)
{
    char *path = NULL;
    SKY_TRY(sky_path_join(folder, name, &path));
    const sky_status st =
        mkdir(path, 0777) == 0 || errno == EEXIST ? SKY_OK : io_fail(path, "cannot create the folder");
    free(path);
    return st;
}

static sky_status copy_configs(conversion *c, const char *folder)
{
    static const struct {
        const char *diffusers, *converted, *folder;
    } rows[SKY_COMPONENT_COUNT] = {
        [SKY_TRANSFORMER] = {"transformer/config.json", "config.json", NULL},
        [SKY_TEXT_ENCODER] = {"text_encoder/config.json", "text_encoder/config.json", "text_encoder"},
        [SKY_VAE] = {"vae/config.json", "vae/config.json", "vae"},
    };
    const bool diffusers = sky_checkpoint_layout(c->checkpoint) == SKY_LAYOUT_DIFFUSERS;
    for (int i = 0; i < SKY_COMPONENT_COUNT; i++) {
        if (sky_checkpoint_config(c->checkpoint, (sky_component)i) == NULL) {
            continue;
        }
        char *from = NULL;
        SKY_TRY(sky_path_join(c->settings->model_path, diffusers ? rows[i].diffusers : rows[i].converted, &from));
        sky_status st = rows[i].folder != NULL ? make_folder(folder, rows[i].folder) : SKY_OK;
        if (st == SKY_OK) {
            st = copy_file(c, from, folder, rows[i].converted);
        }
        free(from);
        SKY_TRY(st);
    }
    return SKY_OK;
}

static int is_tokenizer_file(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL && (strcmp(dot, ".json") == 0 || strcmp(dot, ".model") == 0);
}

static sky_status copy_tokenizer(conversion *c, const char *folder)
{
    const char *tokenizer = sky_checkpoint_tokenizer_path(c->checkpoint);
    struct dirent **entries = NULL;
    sky_status st = SKY_OK;
    SKY_TRY(make_folder(folder, "google"));
    SKY_TRY(make_folder(folder, SKY_TOKENIZER_FOLDER));
    const int count = scandir(tokenizer, &entries, is_tokenizer_file, alphasort);
    if (count < 0) {
        return io_fail(tokenizer, "cannot list the folder");
    }
    for (int i = 0; i < count; i++) {
        char *from = NULL;
        char *name = NULL;
        if (st == SKY_OK) {
            st = sky_path_join(tokenizer, entries[i]->d_name, &from);
        }
        if (st == SKY_OK) {
            st = sky_path_join(SKY_TOKENIZER_FOLDER, entries[i]->d_name, &name);
        }
        if (st == SKY_OK && sky_path_is_file(from)) {
            st = copy_file(c, from, folder, name);
        }
        free(name);
        free(from);
        free(entries[i]);
    }
    free(entries);
    return st;
}

/* ---- the whole ---- */

static sky_status set_original(conversion *c)
{
    char name[SKY_PUBLISHED_NAME_BYTES];
    sky_checkpoint_published_name(c->settings->model_path, name);
    c->manifest.original = strdup(sky_check_name("folder", name, strlen(name)) == SKY_OK ? name : "model");
    return c->manifest.original != NULL ? SKY_OK : sky_fail(SKY_ERR_NOMEM, "no memory for a name");
}

/* What was written lacks nothing either, whatever was left out. */
static sky_status check_result(const conversion *c, const char *folder)
{
    sky_checkpoint *converted = NULL;
    if (c->settings->check == NULL) {
        return SKY_OK;
    }
    sky_status st = sky_checkpoint_open_converted(folder, UNFINISHED_NAME, &converted);
    if (st == SKY_OK) {
        st = c->settings->check(c->settings->check_user, converted, c->settings->codes);
    }
    sky_checkpoint_destroy(&converted);
    return sky_fail_in(st, "what was converted does not load");
}

static sky_status prepare(conversion *c)
{
    SKY_TRY(check_source(c));
    if (c->settings->check != NULL) {
        SKY_TRY(c->settings->check(c->settings->check_user, c->checkpoint, SKY_F32));
    }
    SKY_TRY(sky_fail_in(sky_convert_plan_make(c->checkpoint, c->settings, &c->plan, &c->manifest, c->report), "%s",
                        c->settings->model_path));
    SKY_TRY(set_original(c));
    c->manifest.files = calloc(SKY_MANIFEST_MAX_FILES, sizeof *c->manifest.files);
    if (c->manifest.files == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a list of files");
    }
    c->report->num_shards = c->manifest.num_shards;
    return make_buffers(c);
}

/* Gives the manifest its name, by which the folder loads. */
static sky_status name_manifest(const char *folder)
{
    char *from = NULL;
    char *to = NULL;
    sky_status st = sky_path_join(folder, UNFINISHED_NAME, &from);
    if (st == SKY_OK) {
        st = sky_path_join(folder, SKY_MANIFEST_NAME, &to);
    }
    if (st == SKY_OK && rename(from, to) != 0) {
        st = io_fail(to, "giving the manifest its name");
    }
    free(to);
    free(from);
    return st;
}

static sky_status fill_folder(conversion *c, const char *folder)
{
    int64_t next = 0;
    SKY_TRY(check_space(c, folder));
    SKY_TRY(copy_configs(c, folder));
    SKY_TRY(copy_tokenizer(c, folder));
    for (int i = 0; i < c->manifest.num_shards; i++) {
        SKY_TRY(write_shard(c, folder, &c->manifest.shards[i], &next));
    }
    SKY_TRY(sky_manifest_save(folder, UNFINISHED_NAME, &c->manifest));
    SKY_TRY(check_result(c, folder));
    if (c->settings->verify) {
        c->done_bytes = 0;
        SKY_TRY(sky_convert_verify(c, folder, UNFINISHED_NAME));
    }
    return name_manifest(folder);
}

sky_status sky_convert_folder(const sky_convert_settings *settings, sky_convert_progress progress, void *user,
                              sky_convert_report *report)
{
    sky_status st = SKY_OK;
    sky_checkpoint *checkpoint = NULL;
    sky_output_file *output = NULL;
    conversion c = {.settings = settings, .progress = progress, .user = user, .report = report};
    c.manifest.codes = settings->codes;
    SKY_ASSERT(settings->codes == SKY_F8_E4M3 || settings->codes == SKY_I8);

    SKY_TRY_GOTO(check_output(settings));
    SKY_TRY_GOTO(sky_checkpoint_open(settings->model_path, &checkpoint));
    c.checkpoint = checkpoint;
    SKY_TRY_GOTO(prepare(&c));
    SKY_TRY_GOTO(sky_output_dir_create(settings->output_path, &output));
    SKY_TRY_GOTO(fill_folder(&c, sky_output_file_path(output)));
    SKY_TRY_GOTO(sky_output_file_commit(output));
done:
    sky_checkpoint_destroy(&checkpoint); /* first: removing a folder takes descriptors, which may be what failed */
    sky_output_file_destroy(&output);
    sky_threads_destroy(&c.threads);
    free(c.values);
    free(c.pieces);
    sky_manifest_release(&c.manifest);
    sky_convert_plan_release(&c.plan);
    return st;
}
