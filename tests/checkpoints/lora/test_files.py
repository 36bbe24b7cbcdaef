"""Adapters as files: round trips with peft both ways, merged weights, evaluation through a config, files that are
refused and what they do not run.
"""

import json
import sys

import pytest
import safetensors.torch
import torch
from helpers import tiny_denoiser, write_tiny_prior
from peft import LoraConfig, PeftModel, get_peft_model

from checkpoints import export_adapter, merge_adapters
from checkpoints.files import write_safetensors
from checkpoints.foreign import import_diffusers
from checkpoints.foreign.export_diffusers import write_diffusers
from checkpoints.load import load_prior
from checkpoints.lora.apply import adapt
from checkpoints.lora.files import (
    CONFIG,
    PICKLED,
    WEIGHTS,
    Adapter,
    AdapterEntry,
    adapter_fingerprint,
    read_adapter,
    write_adapter,
)
from checkpoints.lora.merging import change, merged, weights_hash, widened
from checkpoints.method_prior import prior_for
from checkpoints.prior import LoadedPrior, describe_prior
from common.errors import UserError
from networks.lora import adapter_state, add_adapter, load_adapter_state, use_adapters
from networks.lora_settings import LoRASettings, chosen
from networks.unet import UNet
from restoration.sdedit import SDEdit

TARGETS = ["conv1", "conv2", "skip", "shift", "resample.conv"]
X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, 900.0])


def settings(**options):
    return LoRASettings(
        layers=tuple(sorted(chosen(tiny_denoiser().network, TARGETS))), **{"rank": 2, "alpha": 3.0, **options}
    )


def adapter(seed=0, base=None, **options) -> Adapter:
    """An adapter of the tiny network, with random numbers."""
    network, given = tiny_denoiser().network, settings(**options)
    add_adapter(network, given)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        n: (t if "magnitude" in n else 0) + 0.2 * torch.randn(t.shape, generator=generator)
        for n, t in adapter_state(network).items()
    }
    return Adapter(given, tensors, base)


def answer(found: Adapter):
    """What the tiny network with the adapter answers, by the layers beside its own."""
    network = tiny_denoiser().network
    add_adapter(network, found.settings)
    load_adapter_state(network, found.tensors)
    use_adapters(network, {"default": 1.0})
    with torch.no_grad():
        return network(X, T)


LAYERS = {"ranks": {"down.0.blocks.0.conv1": 3, "up.0.blocks.0.skip": 1}, "alphas": {"down.0.blocks.0.conv1": 7.0}}


@pytest.mark.parametrize(
    "options", [{}, {"rslora": True}, {"dora": True}, LAYERS, {"rslora": True, **LAYERS}, {"dora": True, **LAYERS}]
)
def test_what_we_write_is_what_we_and_peft_read(options, tmp_path):
    ours = adapter(**options)
    again = read_adapter(write_adapter(tmp_path / "a", ours))
    assert again.settings == ours.settings and again.tensors.keys() == ours.tensors.keys()
    assert all(torch.equal(t, again.tensors[n]) for n, t in ours.tensors.items())
    expected = answer(ours)
    theirs = PeftModel.from_pretrained(tiny_denoiser().network, tmp_path / "a").eval()  # on the same network, unchanged
    with torch.no_grad():
        torch.testing.assert_close(theirs(X, T), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.merge_and_unload()(X, T), expected, atol=1e-5, rtol=0)
    # Merged here, without peft.
    network = tiny_denoiser().network
    network.load_state_dict(merged(network.state_dict(), [(ours, 1.0)], where="it"))
    with torch.no_grad():
        torch.testing.assert_close(network(X, T), expected, atol=1e-5, rtol=0)


# Names, their last parts, regular expressions, of which the first that fits counts; one fits nothing. peft sorts them
# when it writes them, so that of others the first may be another one when it reads them.
PATTERNS = {
    "rank_pattern": {
        "^down.1.blocks.0.skip": 4,
        r"blocks\.\d+\.conv1": 3,
        "conv": 1,
        "down.0.blocks.0.conv1": 5,
        "onv2": 9,
    },
    "alpha_pattern": {"conv[12]": 1.5, "down.0.blocks.0.conv1": 6},
}
UNSORTED = {"alpha_pattern": {"down.0.blocks.0.conv1": 6, "conv[12]": 1.5}}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"init_lora_weights": "gaussian"},
        PATTERNS,
        {"use_rslora": True, **PATTERNS},
        {"use_dora": True, "alpha_pattern": PATTERNS["alpha_pattern"]},
        UNSORTED,
    ],
)
@pytest.mark.filterwarnings("ignore:The following rank_pattern keys did not match")
def test_what_peft_writes_is_what_we_read(options, binary, tmp_path):
    theirs = get_peft_model(
        tiny_denoiser().network,
        LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, target_modules=list(settings().layers), **options),
    ).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in theirs.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=generator))
        expected = theirs(X, T)
    theirs.save_pretrained(tmp_path / "a", safe_serialization=not binary)
    assert (tmp_path / "a" / WEIGHTS).is_file() != binary
    found = read_adapter(tmp_path / "a")
    if "rank_pattern" in options:
        of = found.settings.rank_of
        assert [of("down.0.blocks.0.conv1"), of("down.0.blocks.0.conv2"), of("down.0.resample.conv")] == [3, 2, 1]
    again = read_adapter(write_adapter(tmp_path / "b", found))
    assert again.settings == found.settings
    assert found.settings.rank == 2 and found.settings.alpha == 3 and found.base is None
    opened = PeftModel.from_pretrained(tiny_denoiser().network, tmp_path / "a").eval()
    with torch.no_grad():
        assert torch.equal(opened(X, T), expected) == (options is not UNSORTED)
        expected = opened(X, T)
    torch.testing.assert_close(answer(found), expected, atol=1e-5, rtol=0)
    network = tiny_denoiser().network
    adapt(network, [AdapterEntry(str(tmp_path / "a"))])
    with torch.no_grad():
        torch.testing.assert_close(network(X, T), expected, atol=1e-5, rtol=0)


def test_a_pickled_adapter_is_only_numbers_and_counts_in_the_fingerprint(tmp_path):
    given = adapter()
    folder = write_adapter(tmp_path / "a", given)
    numbers = {f"base_model.model.{n}": t for n, t in given.tensors.items()}
    torch.save({n: t + 1 for n, t in numbers.items()}, folder / PICKLED)
    first = adapter_fingerprint(folder)
    assert all(torch.equal(t, given.tensors[n]) for n, t in read_adapter(folder).tensors.items())
    (folder / WEIGHTS).rename(tmp_path / "away")  # it comes first, as in peft
    second = adapter_fingerprint(folder)
    assert first != second == adapter_fingerprint(folder / PICKLED)
    for path in (folder, folder / PICKLED):
        found = read_adapter(path).tensors
        assert all(torch.equal(t, given.tensors[n] + 1) for n, t in found.items())
    torch.save(numbers, folder / PICKLED)
    assert adapter_fingerprint(folder) != second
    config = json.loads((folder / CONFIG).read_text())
    before = adapter_fingerprint(folder)
    (folder / CONFIG).write_text(json.dumps({**config, "alpha_pattern": {"conv1": 6.0}}))
    assert adapter_fingerprint(folder) != before
    torch.save(numbers | {"more": Bomb(tmp_path / "fired")}, folder / PICKLED)
    with pytest.raises(UserError, match="nothing of it was run"):
        read_adapter(folder)
    torch.save(numbers | {"more": 3}, folder / PICKLED)
    with pytest.raises(UserError, match="its entry 'more' is a int"):
        read_adapter(folder)
    (folder / PICKLED).write_bytes(b"no")
    with pytest.raises(UserError):
        read_adapter(folder)
    assert not (tmp_path / "fired").exists()


def test_the_file_is_four_bytes_a_number_and_a_header(tmp_path):
    found = adapter()
    write_adapter(tmp_path, found)
    size, numbers = (tmp_path / WEIGHTS).stat().st_size, sum(t.numel() for t in found.tensors.values())
    with open(tmp_path / WEIGHTS, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    assert size == 8 + header + 4 * numbers


def test_the_change_of_a_convolution_is_the_composition_of_two():
    found = adapter()
    layer = "down.0.blocks.0.conv1"
    x = torch.randn(1, 8, 6, 6)
    one = torch.nn.functional.conv2d(x, change(found, layer, (8, 8, 3, 3), 0.5), padding=1)
    down, up = (found.tensors[f"{layer}.lora_{p}.weight"] for p in "AB")
    two = 0.5 * 1.5 * torch.nn.functional.conv2d(torch.nn.functional.conv2d(x, down, padding=1), up)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_merging_is_linear_in_the_scale_and_additive():
    weights, one, other = tiny_denoiser().network.state_dict(), adapter(1), adapter(2)
    before = weights_hash(weights)

    def moved(*adapters):
        found = merged(weights, adapters, where="it")
        return {n: found[n] - weights[n] for n in weights}

    single, twice, sum_, none = (
        moved((one, 1.0)),
        moved((one, 2.0)),
        moved((one, 1.0), (other, -0.5)),
        moved((one, 0.0)),
    )
    second = moved((other, 1.0))
    for n in weights:
        torch.testing.assert_close(twice[n], 2 * single[n], atol=1e-6, rtol=0)
        torch.testing.assert_close(sum_[n], single[n] - 0.5 * second[n], atol=1e-6, rtol=0)
        assert not none[n].any()
    assert weights_hash(weights) == before  # given weights are not changed in place


def test_a_config_takes_a_prior_with_adapters(tmp_path):
    path = write_tiny_prior(tmp_path / "p.safetensors")
    base = weights_hash(load_prior(path).denoiser.network.state_dict())
    folders = [str(write_adapter(tmp_path / name, adapter(seed, base))) for seed, name in enumerate("ab")]
    found = prior_for(SDEdit, path, adapters=[AdapterEntry(folders[0]), AdapterEntry(folders[1], 0.5)])
    expected = merged(
        load_prior(path).denoiser.network.state_dict(), [(adapter(0), 1.0), (adapter(1), 0.5)], where="it"
    )
    assert weights_hash(found.model.network.state_dict()) == weights_hash(expected)
    plain = prior_for(SDEdit, path)
    others = [prior_for(SDEdit, path, adapters=[AdapterEntry(folders[0], s)]).fingerprint for s in (1.0, 0.5)]
    assert (
        len({plain.fingerprint, found.fingerprint, *others}) == 4 and plain.fingerprint == load_prior(path).fingerprint
    )
    assert adapter_fingerprint(folders[0]) != adapter_fingerprint(folders[1])
    names = {type(m).__module__ for m in found.model.modules()}
    assert not any("peft" in n or "lora" in n for n in names)  # plain layers: it costs what the prior costs


def checkpoint_of(found: Adapter, path, base: dict, description: dict, other: Adapter | None = None):
    """A training checkpoint that holds the adapter, raw; and as its average another one."""
    plain = {
        "layers": list(found.settings.layers),
        "rank": 2,
        "alpha": 3.0,
        "dropout": 0.0,
        "rslora": False,
        "dora": False,
    }
    named = lambda a: {f"{n.removesuffix('.weight')}.default.weight": t for n, t in a.tensors.items()}  # noqa: E731
    state = {f"denoiser.network.{n}": t for n, t in named(found).items()}
    content = {"prior": description, "state_dict": state, "adapter": {"format": 1, "settings": plain, "base": base}}
    torch.save(content | ({"ema": {"weights": named(other)}} if other else {}), path)
    return path


def test_a_fingerprint_follows_all_that_changes_the_weights(tmp_path):
    """Alpha, which stands beside the file of numbers; averaged or raw weights, also where the prior has one set; every
    digit of the scale.
    """
    folder = write_adapter(tmp_path / "a", adapter())
    file = folder / WEIGHTS
    before = adapter_fingerprint(file)
    assert before == adapter_fingerprint(folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "lora_alpha": 6.0}))
    assert read_adapter(file).settings.alpha == 6 and adapter_fingerprint(file) != before
    path = write_tiny_prior(tmp_path / "p.safetensors")
    base = {
        "path": str(path),
        "weights": "ema",
        "hash": weights_hash(load_prior(path).denoiser.network.state_dict()),
        "images": 1,
    }
    both = checkpoint_of(adapter(0), tmp_path / "a.ckpt", base, load_prior(path).description, adapter(1))
    networks = {which: tiny_denoiser().network for which in ("ema", "raw")}
    added = {which: adapt(network, [AdapterEntry(str(both))], weights=which) for which, network in networks.items()}
    assert (
        weights_hash(networks["ema"].state_dict()) != weights_hash(networks["raw"].state_dict())
        and added["ema"] != added["raw"]
    )
    assert len({adapt(tiny_denoiser().network, [AdapterEntry(str(folder), s)]) for s in (0.1234567, 0.1234568)}) == 2


def test_the_prior_of_an_adapter_may_be_a_name_of_the_hub(tmp_path, monkeypatch):
    """As it was found when the adapter was trained."""
    denoiser = tiny_denoiser()
    given = LoadedPrior(denoiser, describe_prior(denoiser, data="Digits"), "")
    folder = write_diffusers(tmp_path / "cached", given, source=tmp_path)
    monkeypatch.setattr(import_diffusers, "_fetched", lambda name: folder)
    base = {
        "path": "someone/tiny-ddpm",
        "weights": "ema",
        "hash": weights_hash(denoiser.network.state_dict()),
        "images": 1,
    }
    path = checkpoint_of(adapter(), tmp_path / "a.ckpt", base, given.description)
    expected = merged(denoiser.network.state_dict(), [(adapter(), 1.0)], where="it")
    assert weights_hash(load_prior(path, weights="raw").denoiser.network.state_dict()) == weights_hash(expected)


def test_the_command_merges(tmp_path, monkeypatch, capsys):
    path = write_tiny_prior(tmp_path / "p.safetensors")
    folder = write_adapter(tmp_path / "a", adapter())
    monkeypatch.setattr(
        sys, "argv", ["merge", str(path), str(folder), "--scales", "0.5", "--output", str(tmp_path / "m.safetensors")]
    )
    merge_adapters.main()
    assert "m.safetensors" in capsys.readouterr().out
    found = load_prior(tmp_path / "m.safetensors")
    assert weights_hash(found.denoiser.network.state_dict()) == weights_hash(
        merged(tiny_denoiser().network.state_dict(), [(adapter(), 0.5)], where="it")
    )
    assert found.description["adapters"] == [{"path": str(folder), "scale": 0.5}]
    # Of a released prior that says which weights it holds, the merged one says the same.
    write_safetensors(
        path, tiny_denoiser().network, {**load_prior(path).description, "weights": "raw"}, dtype=torch.float32
    )
    merge_adapters.main()
    assert load_prior(tmp_path / "m.safetensors").description["weights"] == "raw"
    for wrong, match in (
        (["--output", "m.ckpt"], "must end in .safetensors"),
        (["--scales", "1", "2", "--output", "m.safetensors"], "one number for each"),
    ):
        monkeypatch.setattr(sys, "argv", ["merge", str(path), str(folder), *wrong])
        with pytest.raises(UserError, match=match):
            merge_adapters.main()
    monkeypatch.setattr(sys, "argv", ["export", str(folder), str(tmp_path / "b")])
    with pytest.raises(UserError, match="needs no export"):
        export_adapter.main()


def test_an_adapter_for_another_network_is_refused():
    found = adapter()
    wider = UNet(in_channels=1, channels=12, multipliers=[1, 2], blocks=1, attention=[], groups=4).state_dict()
    flat = UNet(in_channels=1, channels=8, multipliers=[1], blocks=1, attention=[], groups=4).state_dict()
    with pytest.raises(UserError, match=r"another network: '\S+' has weights \[12, .* here and \[8, "):
        merged(wider, [(found, 1.0)], where="the adapter 'x'")
    with pytest.raises(UserError, match=r"another network: it changes '\S+', which this one does not have"):
        merged(flat, [(found, 1.0)], where="the adapter 'x'")
    weights, other = tiny_denoiser().network.state_dict(), tiny_denoiser(seed=1).network.state_dict()
    mine = adapter(base=weights_hash(weights))
    merged(weights, [(mine, 1.0)], where="it")
    with pytest.raises(UserError, match="trained beside other weights of this network"):
        merged(other, [(mine, 1.0)], where="the adapter 'x'")
    merged(other, [(mine, 1.0)], where="it", any_base=True)
    with pytest.raises(UserError, match="dora works alone"):
        merged(weights, [(adapter(dora=True), 1.0), (found, 1.0)], where="it")
    with pytest.raises(UserError, match="scale of an adapter must be finite"):
        merged(weights, [(found, float("nan"))], where="it")


CONFIGS = [
    ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
    (
        {"modules_to_save": ["head"]},
        r"asks for modules_to_save=\['head'\], which is not implemented here: nothing of it was run",
    ),
    ({"auto_mapping": {"base_model_class": "os.system", "parent_library": "os"}}, "auto_mapping.*os.system"),
    ({"auto_mapping": {"base_model_class": "UNet", "parent_library": "evil_module"}}, "auto_mapping.*evil_module"),
    ({"auto_mapping": "os.system"}, "asks for auto_mapping"),
    ({"megatron_config": {"a": 1}}, "asks for megatron_config"),
    ({"megatron_core": "evil_module"}, "asks for megatron_core='evil_module'"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),  # changes the base too
    ({"rank_pattern": {"conv1": 3}}, "'down.0.blocks.0.conv1' has A .* and the rank is 3"),
    ({"rank_pattern": {"conv1": 2.0}}, r"has rank_pattern=\{'conv1': 2.0\}: expected int"),
    ({"alpha_pattern": {"conv1": True}}, r"has alpha_pattern=\{'conv1': True\}: expected int or float"),
    ({"alpha_pattern": {"conv1": -1}}, "alpha positive, got .* alpha=-1.0 of 'down.0.blocks.0.conv1'"),
    ({"alpha_pattern": {"(": 1}}, r"alpha_pattern: '\(' is no regular expression"),
    ({"alpha_pattern": {"(?i)x": 1}}, "is no regular expression"),
    ({"alpha_pattern": ["conv1"]}, "has alpha_pattern=.*: expected dict"),
    ({"bias": "all"}, "bias='all'"),
    ({"some_new_option": 1}, "some_new_option"),
    ({"r": "2"}, "has r='2': expected int"),
    ({"r": 3}, "rank is 3"),
    ({"lora_alpha": None}, "lora_alpha=None"),
    ({"lora_alpha": -1}, "alpha positive"),
    ({"use_dora": True}, "missing"),
]


@pytest.mark.parametrize(("changed", "match"), CONFIGS)
def test_a_config_that_asks_for_anything_else_is_refused(changed, match, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "evil_module", None)  # importing it would fail in another way
    folder = write_adapter(tmp_path, adapter())
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changed}))
    with pytest.raises(UserError, match=match) as error:
        read_adapter(folder)
    assert "\n" not in str(error.value)


def test_files_that_are_damaged_or_missing(tmp_path):
    with pytest.raises(UserError, match="there is no adapter at"):
        read_adapter(tmp_path / "nowhere")
    folder = write_adapter(tmp_path / "a", adapter())
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is damaged or not a safetensors file"):
        read_adapter(folder)
    tensors = adapter().tensors
    for change_, match in (
        (lambda t: t.pop("down.0.blocks.0.conv1.lora_A.weight"), "'down.0.blocks.0.conv1.lora_A.weight' missing"),
        (lambda t: t.update({"down.0.blocks.0.conv1.bias": torch.zeros(8)}), "'down.0.blocks.0.conv1.bias' unexpected"),
        (lambda t: t["down.0.blocks.0.conv1.lora_A.weight"].fill_(float("nan")), "not finite"),
    ):
        given = {n: t.clone() for n, t in tensors.items()}
        change_(given)
        (folder / WEIGHTS).write_bytes(safetensors.torch.save({f"base_model.model.{n}": t for n, t in given.items()}))
        with pytest.raises(UserError, match=match):
            read_adapter(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(UserError, match="not readable as JSON"):
        read_adapter(folder)


class Bomb:
    """Its unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_checkpoint_that_would_run_code_runs_nothing(tmp_path):
    torch.save({"adapter": Bomb(tmp_path / "fired"), "prior": {}}, tmp_path / "a.ckpt")
    for read in (read_adapter, load_prior):
        with pytest.raises(UserError, match="nothing of it was run"):
            read(tmp_path / "a.ckpt")
    assert not (tmp_path / "fired").exists()


def test_checkpoints_that_name_foreign_classes_or_themselves(tmp_path):
    path = write_tiny_prior(tmp_path / "p.safetensors")
    description, network = load_prior(path).description, load_prior(path).denoiser.network
    found, base = (
        adapter(),
        {
            "path": str(path),
            "weights": "ema",
            "hash": weights_hash(network.state_dict()),
            "images": 1,
        },
    )
    plain = {
        "layers": list(found.settings.layers),
        "rank": 2,
        "alpha": 3.0,
        "dropout": 0.0,
        "rslora": False,
        "dora": False,
    }
    state = {f"denoiser.network.{n.removesuffix('.weight')}.default.weight": t for n, t in found.tensors.items()}

    def write(name, *, prior=description, **changed):
        content = {
            "prior": prior,
            "state_dict": state,
            "adapter": {"format": 1, "settings": plain, "base": base, **changed},
        }
        torch.save(content, tmp_path / name)
        return tmp_path / name

    good = load_prior(write("good.ckpt"), weights="raw")
    assert weights_hash(good.denoiser.network.state_dict()) == weights_hash(
        merged(network.state_dict(), [(found, 1.0)], where="it")
    )
    foreign = {
        **description,
        "network": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(tmp_path / "fired")]}},
    }
    for path_, match in (
        (write("a.ckpt", prior=foreign), "subprocess"),
        (write("b.ckpt", base={**base, "path": str(tmp_path / "b.ckpt"), "weights": "raw"}), "names itself"),
        (write("c.ckpt", base={**base, "class_path": "os.system"}), "does not describe its prior"),
        (write("d.ckpt", settings={**plain, "hook": "os.system"}), "does not describe its adapter"),
        (write("e.ckpt", format=2), "format 2"),
        (write("f.ckpt", settings={**plain, "layers": plain["layers"][1:]}), "unexpected"),
    ):
        with pytest.raises(UserError, match=match):
            load_prior(path_, weights="raw")
    with pytest.raises(UserError, match="no averaged weights"):
        load_prior(tmp_path / "good.ckpt")
    assert not (tmp_path / "fired").exists()


def test_a_widened_stem_does_not_look_at_the_new_image():
    torch.manual_seed(0)
    options = {
        "channels": 8,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention": [],
        "groups": 4,
        "patch": 2,
        "out_channels": 1,
    }
    one, two = UNet(in_channels=1, **options), UNet(in_channels=2, **options)
    with torch.no_grad():
        for p in one.parameters():
            p.add_(0.05 * torch.randn_like(p))
        two.load_state_dict(widened(one.state_dict(), 2))
        torch.testing.assert_close(two(torch.cat([X, torch.randn_like(X)], 1), T), one(X, T), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="stem"):
        widened({"layer.weight": torch.zeros(1)}, 2)
