"""Writes the seeds of the fuzz targets below seeds/. Needs nothing but Python."""
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))


def save(subject, name, data):
    folder = os.path.join(HERE, "seeds", subject)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as out:
        out.write(data)


def stand_in(module, name):
    """A function or class that pickles under this name without torch being there."""
    parent = sys.modules.setdefault(module, types.ModuleType(module))
    value = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(parent, name, value)
    return value


Float = stand_in("torch", "FloatStorage")
Byte = stand_in("torch", "ByteStorage")
rebuild = stand_in("torch._utils", "_rebuild_tensor_v2")
parameter = stand_in("torch._utils", "_rebuild_parameter")


class Storage:
    def __init__(self, *args):
        self.id = ("storage", *args)


class Call:
    def __init__(self, function, *args):
        self.value = (function, args)

    def __reduce__(self):
        return self.value


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def tensor(storage, offset, size, stride):
    return Call(rebuild, storage, offset, size, stride, False, collections.OrderedDict())


def dump(value):
    out = io.BytesIO()
    Pickler(out, 2).dump(value)
    return out.getvalue()


def archive(data, names=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in [("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little"),
                              ("data/0", bytes(16)), ("data/1", bytes(32)), *names]:
            z.writestr(zipfile.ZipInfo("archive/" + name), content)
    return out.getvalue()


plain = {"w": tensor(Storage(Float, "0", "cpu", 4), 0, (2, 2), (2, 1)),
         "v": tensor(Storage(Byte, "1", "cpu", 32), 3, (5,), (1,)),
         "s": tensor(Storage(Float, "0", "cpu", 4), 3, (), ())}
ordered = collections.OrderedDict(plain, p=Call(parameter, plain["w"], True, collections.OrderedDict()))
ordered._metadata = collections.OrderedDict({"": {"version": 1}})
pickles = {"plain": dump(plain), "ordered": dump(ordered),
           "nested": dump({"state_dict": plain, "epoch": 3, "loss": 1.5, "list": [1, None, True], "big": 1 << 40})}
for name, data in pickles.items():
    save("pickle", name, data)
    save("torch", name, archive(data))

for name, text in {"object": '{"a": [1, -2, 3.5e7, "x\\u00e4\\n", null, true], "b": {"c": {}}}', "number": "12",
                   "deep": "[" * 64 + "]" * 64}.items():
    save("json", name, text.encode())

header = ('{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
          '"model.diffusion_model.b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}  ')
save("safetensors", "plain", struct.pack("<I", 26) + header.encode())
save("safetensors", "empty", struct.pack("<I", 0) + b"{}")
