#!/usr/bin/env python3
"""One forward of the transformer in plain PyTorch: what the CUDA backend is compared with.

The published forward (text to video, modules/transformer.py) written anew, needing nothing but torch: no checkpoint, no
flash-attention, no diffusers. Weights are random: matrices normal / sqrt(columns), gates of order 1, keys with a channel offset
of two sigma and values with a channel mean of one, as real ones have.

    bench/peers/torch_step.py                                  14B at 544x960, 97 frames: BF16 and FP8
    bench/peers/torch_step.py --num_layers 4                   four blocks timed, the time of 40 extrapolated (and said so)
    bench/peers/torch_step.py --errors                         one block by the 8-bit contract (docs/numerics.md) emulated with
                                                               FP32 sums, against the BF16 block: what the contract costs
    bench/peers/torch_step.py --json out.json

Modes: bf16  every linear layer in BF16, attention by cuDNN
       fp8   block linears by torch._scaled_mm with a scale per token and per output channel, use_fast_accum=True; attention
             stays BF16 by cuDNN
Blocks are compiled by torch.compile without dynamic shapes (--eager: not). The time is the best of the second and third forward
after a second of load; SM clock and power are nvidia-smi's while these run.
"""
import argparse
import json
import math
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

E4M3_MAX = 448.0
INT8_MAX = 127.0
LEAST_AMAX = 1e-12


class Shape:
    def __init__(self, a):
        self.dim, self.ffn_dim, self.num_heads = a.dim, a.ffn_dim, a.num_heads
        self.num_layers, self.all_layers = min(a.num_layers, a.all_layers), a.all_layers
        self.head_dim = a.dim // a.num_heads
        self.text_len, self.text_dim = 512, 4096
        frames = (a.num_frames - 1) // 4 + 1
        self.latents = (16, frames, a.height // 8, a.width // 8)
        self.grid = (frames, a.height // 16, a.width // 16)
        self.tokens = self.grid[0] * self.grid[1] * self.grid[2]

    def linear_flop(self):
        """Of one block, per forward: q, k, v, o, cross q and o, both of the feed-forward."""
        return 2 * self.tokens * (6 * self.dim * self.dim + 2 * self.dim * self.ffn_dim)

    def attention_flop(self):
        return 4 * self.tokens * self.tokens * self.dim


# ---------------------------------------------------------------------------------------------------------------- weights


def normal(*shape, std=1.0, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=torch.float32).mul_(std).to(dtype)


def linear_weights(out_dim, in_dim, bias_std=0.02):
    return normal(out_dim, in_dim, std=in_dim**-0.5), normal(out_dim, std=bias_std)


def block_weights(s, logit_std):
    """A dictionary of tensors; names as in the published model. The norm of q sets how peaked the softmax is."""
    w = {"modulation": normal(6, s.dim, std=1.0)}
    for name in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.k", "cross_attn.v",
                 "cross_attn.o"):
        w[name] = linear_weights(s.dim, s.dim)
    w["self_attn.k"] = (w["self_attn.k"][0], normal(s.dim, std=2.0))
    w["self_attn.v"] = (w["self_attn.v"][0], normal(s.dim, std=1.0))
    w["ffn.0"] = linear_weights(s.ffn_dim, s.dim)
    w["ffn.2"] = linear_weights(s.dim, s.ffn_dim)
    for name in ("self_attn.norm_q", "self_attn.norm_k", "cross_attn.norm_q", "cross_attn.norm_k"):
        w[name] = normal(s.dim, std=0.1).add_(1.0)
    w["self_attn.norm_q"].mul_(logit_std)
    w["norm3"] = (normal(s.dim, std=0.1).add_(1.0), normal(s.dim, std=0.1))
    return w


def top_weights(s):
    return {
        "patch_embedding": linear_weights(s.dim, 64),
        "text_embedding.0": linear_weights(s.dim, s.text_dim),
        "text_embedding.2": linear_weights(s.dim, s.dim),
        "time_embedding.0": linear_weights(s.dim, 256),
        "time_embedding.2": linear_weights(s.dim, s.dim),
        "time_projection.1": linear_weights(6 * s.dim, s.dim),
        "head.head": linear_weights(64, s.dim),
        "head.modulation": normal(2, s.dim, std=0.5),
    }


def rope_table(s):
    """cos and sin [tokens, 64]: 22 pairs for time, 21 for height, 21 for width, neighbours forming a pair."""
    angles = []
    for dim, axis in ((44, 0), (42, 1), (42, 2)):
        inv_freq = 1.0 / 10000.0 ** (torch.arange(0, dim, 2, device="cuda", dtype=torch.float32) / dim)
        position = torch.arange(s.grid[axis], device="cuda", dtype=torch.float32)
        a = position[:, None] * inv_freq[None, :]
        view = [1, 1, 1, dim // 2]
        view[axis] = s.grid[axis]
        angles.append(a.view(view).expand(*s.grid, dim // 2))
    a = torch.cat(angles, dim=-1).reshape(s.tokens, 64)
    return a.cos(), a.sin()


# ---------------------------------------------------------------------------------------------------------- linear layers


def row_scales(x, largest):
    """1 / amax and then times `largest`, in f32, as the contract says; returns codes' factor and the scale."""
    amax = x.abs().amax(dim=-1, keepdim=True).float().clamp_min(LEAST_AMAX)
    return (1.0 / amax) * largest, amax / largest


def e4m3(x):
    return x.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def quantize_weight(weight):
    factor, scale = row_scales(weight.float(), E4M3_MAX)
    return e4m3(weight.float() * factor), scale


def linear_bf16(x, w):
    return F.linear(x.to(torch.bfloat16), w[0], w[1])


def linear_fp8(x, w):
    codes, scale, bias = w
    factor, x_scale = row_scales(x, E4M3_MAX)
    return torch._scaled_mm(e4m3(x.float() * factor), codes.t(), scale_a=x_scale, scale_b=scale.t(), bias=bias,
                            out_dtype=torch.bfloat16, use_fast_accum=True)


def linear_contract(x, w):
    """The same codes and scales, summed in FP32."""
    codes, scale, bias = w
    factor, x_scale = row_scales(x, E4M3_MAX)
    y = e4m3(x.float() * factor).float() @ codes.float().t()
    return (y * (x_scale * scale.t()) + bias.float()).to(torch.bfloat16)


# --------------------------------------------------------------------------------------------------------------- attention


def attention_bf16(q, k, v):
    """q, k, v [tokens, heads, D]."""
    q, k, v = (t.to(torch.bfloat16).transpose(0, 1).unsqueeze(0) for t in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v)
    return y.squeeze(0).transpose(0, 1)


def int8_groups(x, tokens_per_group):
    """Codes (as f32) and scale per group of tokens of one head [tokens, D]."""
    tokens = x.shape[0]
    groups = -(-tokens // tokens_per_group)
    padded = F.pad(x, (0, 0, 0, groups * tokens_per_group - tokens)).view(groups, -1)
    factor, scale = row_scales(padded, INT8_MAX)
    codes = torch.round(padded * factor).view(-1, x.shape[1])[:tokens]
    return codes, scale.repeat_interleave(tokens_per_group, dim=0)[:tokens]


def attention_contract_head(q, k, v, softmax_scale, keys_per_step=256, queries_per_piece=4096):
    q_codes, q_scale = int8_groups(q, 64)
    k_codes, k_scale = int8_groups(k - k.double().mean(dim=0).float(), 128)
    mean = v.double().mean(dim=0).float()
    amax = (v - mean).abs().amax(dim=0).clamp_min(LEAST_AMAX)
    v_codes = e4m3((v - mean) * ((1.0 / amax) * E4M3_MAX)).float()
    steps = -(-k.shape[0] // keys_per_step)
    pad = steps * keys_per_step - k.shape[0]
    v_codes = F.pad(v_codes, (0, 0, 0, pad))
    out = torch.empty_like(q, dtype=torch.bfloat16)
    for first in range(0, q.shape[0], queries_per_piece):
        rows = slice(first, min(first + queries_per_piece, q.shape[0]))
        z = q_codes[rows] @ k_codes.t()  # exact: below 2^24
        z = z * (q_scale[rows] * k_scale.t()) * softmax_scale
        z = F.pad(z, (0, pad), value=-math.inf).view(z.shape[0], steps, keys_per_step)
        running = z.amax(dim=2).cummax(dim=1).values  # after each step
        p = e4m3(E4M3_MAX * torch.exp(z - running[:, :, None])).float()
        p = p * torch.exp(running - running[:, -1:])[:, :, None]  # the later shrinking of o and d
        p = p.view(z.shape[0], -1)
        y = (p @ v_codes) / p.sum(dim=1, keepdim=True) * (amax / E4M3_MAX)
        out[rows] = (y + mean).to(torch.bfloat16)
    return out


def attention_contract(q, k, v):
    scale = q.shape[2] ** -0.5
    return torch.stack([attention_contract_head(q[:, n].float(), k[:, n].float(), v[:, n].float(), scale)
                        for n in range(q.shape[1])], dim=1)


# -------------------------------------------------------------------------------------------------------------- one forward


def layer_norm(x):
    return F.layer_norm(x.float(), (x.shape[-1],), eps=1e-6)


def rms_norm(x, weight):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-6) * weight.float()


def rotate(x, cos, sin, num_heads):
    """[tokens, dim] f32 -> [tokens, heads, D]."""
    x = x.view(x.shape[0], num_heads, -1, 2)
    a, b = x.unbind(dim=-1)
    c, s = cos[:, None, :], sin[:, None, :]
    return torch.stack((a * c - b * s, a * s + b * c), dim=-1).flatten(2)


def block(x, e0, text, cos, sin, w, num_heads, linear, attention, cross_linear):
    m = w["modulation"].float() + e0
    heads = lambda t: t.view(t.shape[0], num_heads, -1)
    a = layer_norm(x) * (1 + m[1]) + m[0]
    q = rotate(rms_norm(linear(a, w["self_attn.q"]), w["self_attn.norm_q"]), cos, sin, num_heads)
    k = rotate(rms_norm(linear(a, w["self_attn.k"]), w["self_attn.norm_k"]), cos, sin, num_heads)
    y = attention(q, k, heads(linear(a, w["self_attn.v"])))
    h = x.float() + linear(y.flatten(1), w["self_attn.o"]) * m[2]
    b = layer_norm(h.to(torch.bfloat16)) * w["norm3"][0].float() + w["norm3"][1].float()
    q = heads(rms_norm(linear(b, w["cross_attn.q"]), w["cross_attn.norm_q"]))
    k = heads(rms_norm(cross_linear(text, w["cross_attn.k"]), w["cross_attn.norm_k"]))
    z = attention_bf16(q, k, heads(cross_linear(text, w["cross_attn.v"])))
    h = h + linear(z.flatten(1), w["cross_attn.o"])
    u = layer_norm(h) * (1 + m[4]) + m[3]
    r = F.gelu(linear(u, w["ffn.0"]).float(), approximate="tanh")
    h = h + linear(r, w["ffn.2"]) * m[5]
    return h.to(torch.bfloat16)


def block_bf16(x, e0, text, cos, sin, w, num_heads):
    return block(x, e0, text, cos, sin, w, num_heads, linear_bf16, attention_bf16, linear_bf16)


def block_fp8(x, e0, text, cos, sin, w, num_heads):
    return block(x, e0, text, cos, sin, w, num_heads, linear_fp8, attention_bf16, linear_fp8)


def block_contract(x, e0, text, cos, sin, w, num_heads):
    return block(x, e0, text, cos, sin, w, num_heads, linear_contract, attention_contract, linear_contract)


def conditioning(s, top, timestep, context):
    w = torch.pow(10000.0, -torch.arange(128, device="cuda", dtype=torch.float64) / 128)
    t = torch.cat([torch.cos(timestep * w), torch.sin(timestep * w)]).to(torch.bfloat16).float()
    f32 = lambda x, name: F.linear(x, top[name][0].float(), top[name][1].float())
    e = f32(F.silu(f32(t[None], "time_embedding.0")), "time_embedding.2")
    e0 = f32(F.silu(e), "time_projection.1").view(6, s.dim)
    text = F.gelu(linear_bf16(context, top["text_embedding.0"]), approximate="tanh")
    return e, e0, linear_bf16(text, top["text_embedding.2"])


def patchify(s, x):
    c, f, h, w = s.latents
    x = x.view(c, f, h // 2, 2, w // 2, 2).permute(1, 2, 4, 0, 3, 5)
    return x.reshape(s.tokens, c * 4)


def forward(s, top, blocks, run_block, x, timestep, context, cos, sin):
    e, e0, text = conditioning(s, top, timestep, context)
    h = linear_bf16(patchify(s, x), top["patch_embedding"])
    for w in blocks:
        h = run_block(h, e0, text, cos, sin, w, s.num_heads)
    m = top["head.modulation"].float() + e
    return F.linear(layer_norm(h) * (1 + m[1]) + m[0], top["head.head"][0].float(), top["head.head"][1].float())


# --------------------------------------------------------------------------------------------------------------- measuring


class Sampler:
    """SM clock (MHz) and power (W) by nvidia-smi while the body runs."""

    def __enter__(self):
        command = ["nvidia-smi", "--query-gpu=clocks.sm,power.draw", "--format=csv,noheader,nounits", "-lms", "100"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None
        return self

    def __exit__(self, *_):
        self.clock = self.power = None
        if self.process is None:
            return
        self.process.terminate()
        rows = [line.split(",") for line in self.process.communicate()[0].splitlines() if line.count(",") == 1]
        rows = [(float(a), float(b)) for a, b in rows if a.strip()[0].isdigit()]
        rows = rows[len(rows) // 4:]  # while the load sets in
        if rows:
            self.clock = sorted(r[0] for r in rows)[len(rows) // 2]
            self.power = sorted(r[1] for r in rows)[len(rows) // 2]


def seconds(call):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000.0


def steady(call, least_seconds):
    """Median time of a call once it has run for a second."""
    stop = time.monotonic() + 1.0
    while time.monotonic() < stop:
        call()
        torch.cuda.synchronize()
    times = []
    while sum(times) < least_seconds or len(times) < 5:
        times.append(seconds(call))
    return sorted(times)[len(times) // 2]


def to_fp8(w):
    """Matrices become codes, in place: the BF16 ones are let go one by one."""
    for name in list(w):
        if isinstance(w[name], tuple) and w[name][0].dim() == 2:
            codes, scale = quantize_weight(w[name][0])
            w[name] = (codes, scale, w[name][1])


def time_forward(name, s, top, blocks, run_block, data):
    x, context, cos, sin = data
    call = lambda: forward(s, top, blocks, run_block, x, 999.0, context, cos, sin)
    begin = time.monotonic()
    out = call()
    torch.cuda.synchronize()
    first = time.monotonic() - begin
    assert torch.isfinite(out).all(), name
    stop = time.monotonic() + 1.0
    if first > 1.5 and s.num_layers < s.all_layers:  # compiling is no load
        while time.monotonic() < stop:
            call()
            torch.cuda.synchronize()
    with Sampler() as sampler:
        times = [seconds(call) for _ in range(3)]
    best = min(times[1:])
    flop = s.num_layers * (s.linear_flop() + s.attention_flop())
    result = {"mode": name, "seconds": best, "all_seconds": times, "first_with_compiling": first, "tflops": flop / best / 1e12,
              "sm_clock_mhz": sampler.clock, "watts": sampler.power,
              "peak_gb": torch.cuda.max_memory_allocated() / 1e9}
    if s.num_layers < s.all_layers:
        result["extrapolated_seconds"] = best * s.all_layers / s.num_layers
    print(f"{name:5} {best:.3f} s a forward of {s.num_layers} blocks, {result['tflops']:.0f} TFLOP/s; first call "
          f"{first:.1f} s; {sampler.clock} MHz, {sampler.power} W; peak {result['peak_gb']:.1f} GB"
          + (f"; {s.all_layers} blocks, extrapolated: {result['extrapolated_seconds']:.3f} s"
             if s.num_layers < s.all_layers else ""), flush=True)
    return result


def time_parts(s):
    """Steady time of a block's large parts, each alone."""
    rows = {}
    for name, n, k in (("q,k,v as one", 3 * s.dim, s.dim), ("o", s.dim, s.dim), ("ffn.0", s.ffn_dim, s.dim),
                       ("ffn.2", s.dim, s.ffn_dim)):
        w, b = linear_weights(n, k)
        codes, scale = quantize_weight(w)
        x = normal(s.tokens, k)
        factor, x_scale = row_scales(x, E4M3_MAX)
        xc = e4m3(x.float() * factor)
        flop = 2 * s.tokens * n * k
        for mode, call in (("bf16", lambda: F.linear(x, w, b)),
                           ("fp8 fast", lambda: torch._scaled_mm(xc, codes.t(), scale_a=x_scale, scale_b=scale.t(), bias=b,
                                                                 out_dtype=torch.bfloat16, use_fast_accum=True)),
                           ("fp8 slow", lambda: torch._scaled_mm(xc, codes.t(), scale_a=x_scale, scale_b=scale.t(), bias=b,
                                                                 out_dtype=torch.bfloat16, use_fast_accum=False))):
            t = steady(call, 0.3)
            rows[f"{name} {mode}"] = {"ms": t * 1e3, "tflops": flop / t / 1e12}
        del w, codes, x, xc
    q, k, v = (normal(s.tokens, s.num_heads, s.head_dim) for _ in range(3))
    t = steady(lambda: attention_bf16(q, k, v), 0.3)
    rows["self-attention bf16 cuDNN"] = {"ms": t * 1e3, "tflops": s.attention_flop() / t / 1e12}
    k, v = (normal(512, s.num_heads, s.head_dim) for _ in range(2))
    t = steady(lambda: attention_bf16(q, k, v), 0.3)
    rows["cross-attention bf16 cuDNN"] = {"ms": t * 1e3, "tflops": 4 * s.tokens * 512 * s.dim / t / 1e12}
    for name, row in rows.items():
        print(f"  {name:30} {row['ms']:8.3f} ms {row['tflops']:7.0f} TFLOP/s", flush=True)
    return rows


def relative(got, want):
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


def errors(s, top, make_block, data, num_blocks):
    """How far blocks by the contract are from the same blocks in BF16 on the same unquantised weights."""
    x, context, cos, sin = data
    e, e0, text = conditioning(s, top, 999.0, context)
    h = linear_bf16(patchify(s, x), top["patch_embedding"])
    h = {"bf16": h, "fp8": h.clone(), "contract": h.clone()}
    rows = []
    for i in range(num_blocks):
        w = make_block()
        w8 = dict(w)
        to_fp8(w8)
        begin = time.monotonic()
        same = {"fp8": block_fp8(h["bf16"], e0, text, cos, sin, w8, s.num_heads),
                "contract": block_contract(h["bf16"], e0, text, cos, sin, w8, s.num_heads)}
        want = block_bf16(h["bf16"], e0, text, cos, sin, w, s.num_heads)
        row = {"block": i}
        for mode, got in same.items():
            row[f"{mode}_change"] = relative(got.float() - h["bf16"].float(), want.float() - h["bf16"].float())
        if i > 0:
            h["fp8"] = block_fp8(h["fp8"], e0, text, cos, sin, w8, s.num_heads)
            h["contract"] = block_contract(h["contract"], e0, text, cos, sin, w8, s.num_heads)
        else:
            h["fp8"], h["contract"] = same["fp8"], same["contract"]
        h["bf16"] = want
        for mode in ("fp8", "contract"):
            row[f"{mode}_so_far"] = relative(h[mode], want)
        torch.cuda.synchronize()
        row["seconds"] = time.monotonic() - begin
        rows.append(row)
        print(f"block {i}: change off by {row['fp8_change']:.4f} (fp8), {row['contract_change']:.4f} (contract emulated); output "
              f"so far {row['fp8_so_far']:.4f}, {row['contract_so_far']:.4f}; {row['seconds']:.1f} s", flush=True)
    return rows


def main():
    p = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    p.add_argument("--height", type=int, default=544)
    p.add_argument("--width", type=int, default=960)
    p.add_argument("--num_frames", type=int, default=97)
    p.add_argument("--dim", type=int, default=5120)
    p.add_argument("--ffn_dim", type=int, default=13824)
    p.add_argument("--num_heads", type=int, default=40)
    p.add_argument("--all_layers", type=int, default=40, help="blocks of the model")
    p.add_argument("--num_layers", type=int, default=40, help="blocks that run; fewer are extrapolated")
    p.add_argument("--modes", default="bf16,fp8")
    p.add_argument("--logit_std", type=float, default=2.0, help="how peaked the softmax is")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--eager", action="store_true", help="do not compile the blocks")
    p.add_argument("--parts", action="store_true", help="time a block's large parts, each alone")
    p.add_argument("--errors", type=int, nargs="?", const=1, default=0, metavar="BLOCKS", help="the contract's error over BLOCKS")
    p.add_argument("--json", help="write the figures here")
    a = p.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch_step.py: needs a GPU that torch can use")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.enable_cudnn_sdp(True)  # and no other, so that none is taken quietly
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)
    torch.manual_seed(a.seed)
    s = Shape(a)
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
              "cudnn": torch.backends.cudnn.version(), "tokens": s.tokens, "num_layers": s.num_layers, "command": sys.argv[1:],
              "linear_tflop_a_block": s.linear_flop() / 1e12, "attention_tflop_a_block": s.attention_flop() / 1e12}
    print(f"{result['device']}, torch {result['torch']}, cuDNN {result['cudnn']}; {s.tokens} tokens, {s.num_layers} of "
          f"{s.all_layers} blocks of {result['linear_tflop_a_block']:.1f} + {result['attention_tflop_a_block']:.1f} TFLOP",
          flush=True)
    with torch.no_grad():
        top = top_weights(s)
        data = (torch.randn(s.latents, device="cuda"), normal(s.text_len, s.text_dim), *rope_table(s))
        if a.errors:
            result["errors"] = errors(s, top, lambda: block_weights(s, a.logit_std), data, a.errors)
            torch.cuda.empty_cache()
        if a.parts:
            result["parts"] = time_parts(s)
            torch.cuda.empty_cache()
        modes = [m for m in a.modes.split(",") if m]
        blocks = [block_weights(s, a.logit_std) for _ in range(s.num_layers)] if modes else []
        result["forward"] = []
        torch.cuda.reset_peak_memory_stats()
        for mode in modes:
            if mode not in ("bf16", "fp8"):
                sys.exit(f"torch_step.py: mode '{mode}': want bf16 or fp8")
            if mode == "fp8":
                for w in blocks:
                    to_fp8(w)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            run = {"bf16": block_bf16, "fp8": block_fp8}[mode]
            run = run if a.eager else torch.compile(run, dynamic=False)
            result["forward"].append(time_forward(mode, s, top, blocks, run, data))
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
