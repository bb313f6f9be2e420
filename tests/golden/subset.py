#!/usr/bin/env python3
"""Thins and repacks the golden files, so that the repository stays small: subset.py FULL_FOLDER OUT_FOLDER.

rng_cuda.h5: draws of 16 x 9 x 12 x 20 values keep their first 1,024 and every 37th value instead of all, larger ones the
first 1,024 of 4,096.
t2v.h5: noise and latents of the first video only; the frames of all.
quant.h5: without whole forwards (they are judged by their error against dit.h5) and exact attention (the test computes it); of
the output less V's mean every third query.
dit.h5: what happens inside block 0 (block_0_...) keeps every third token, so `tokens_kept` is 3 there.
All of them: the compact object headers of HDF5 1.10, best compression.
"""
import os
import sys
import h5py

full, out = sys.argv[1:3]
for file in sorted(os.listdir(full)):
    if not file.endswith(".h5") or not os.path.exists(os.path.join(out, file)):
        continue
    with h5py.File(f"{full}/{file}") as source, h5py.File(f"{out}/{file}", "w", libver=("v110", "v110")) as target:
        def visit(name, item):
            if isinstance(item, h5py.Group):
                if file == "quant.h5" and name.startswith("forward"):
                    return
                copy = [target.require_group(name)]
            else:
                values, parts, attrs = item[()], [], {}
                if file == "t2v.h5" and name[0] in "12" and not name.endswith("/frames"):
                    return
                if file == "quant.h5" and (name.startswith("forward/") or name == "attention/exact"):
                    return
                if file == "rng_cuda.h5" and name.endswith("/first"):
                    values = values[:1024]
                if file == "rng_cuda.h5" and name.endswith("/all") and item.size > 10000:
                    parts = [(name[:-3] + "first", values[:1024]), (name[:-3] + "every_37", values[::37])]
                elif name == "attention/offset/out_less_mean":
                    parts = [(name, values[::3])]
                elif file == "dit.h5" and "/block_0_" in name:
                    parts, attrs = [(name, values[::3])], {"tokens_kept": 3}
                else:
                    parts = [(name, values)]
                copy = []
                for path, x in parts:
                    # Compression needs chunks, whose index costs more than it saves on small data.
                    packed = dict(compression="gzip", compression_opts=9, shuffle=True, chunks=x.shape) if x.size > 512 else {}
                    copy.append(target.create_dataset(path, data=x, **packed))
                    copy[-1].attrs.update(attrs)
            for c in copy:
                c.attrs.update(dict(item.attrs))
        target.attrs.update(dict(source.attrs))
        source.visititems(visit)
