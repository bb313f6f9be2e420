#include "skyreels.h"

const char *sky_phase_name(sky_phase phase)
{
    static const char *const names[SKY_PHASE_COUNT] = {
        [SKY_PHASE_LOAD_TEXT_ENCODER] = "loading the text encoder",
        [SKY_PHASE_ENCODE_TEXT] = "encoding text",
        [SKY_PHASE_LOAD_TRANSFORMER] = "loading the transformer",
        [SKY_PHASE_DENOISE] = "denoising",
        [SKY_PHASE_LOAD_VAE] = "loading the VAE",
        [SKY_PHASE_DECODE] = "decoding",
        [SKY_PHASE_WRITE] = "writing",
    };
    return (unsigned)phase < SKY_PHASE_COUNT ? names[phase] : "working";
}
