"""Licences of the weights that a run starts from; sources beside each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.model.timm_catalog import is_timm
from harness.model.timm_model import weights_entry


@dataclass(frozen=True)
class Licence:
    hub_id: str  # of the hub's list; empty: there is nothing to name
    text: str
    name: str = ""  # where the hub's list has only `other`


# Of timm's licences, those that the hub's list has under the same name.
HUB_LICENCES = ("apache-2.0", "mit", "cc-by-nc-4.0")
_TORCHVISION = "https://github.com/pytorch/vision#pre-trained-model-license"
LICENCES = {
    # torchvision names a licence for SWAG's weights, and leaves that of others to the data they were trained on.
    "imagenet": Licence(
        "other",
        "torchvision's weights, trained on ImageNet. torchvision: they \"may have their own licenses or terms and "
        f'conditions derived from the dataset used for training" ({_TORCHVISION})',
        "torchvision",
    ),
    "imagenet-swag": Licence("cc-by-nc-4.0", f"CC BY-NC 4.0: not for commercial use ({_TORCHVISION})"),
    "imagenet-swag-linear": Licence("cc-by-nc-4.0", f"CC BY-NC 4.0: not for commercial use ({_TORCHVISION})"),
    "demo": Licence("mit", "MIT, as vit-harness itself, which drew the images they were trained on"),
    "pretrained": Licence("unknown", "unknown: timm names no licence for them; check it before you publish this model"),
    "none": Licence("", "there are no start weights; the licence is yours to choose"),
}
UNKNOWN = Licence("unknown", "unknown; check it where the file comes from before you publish this model")


def licence_of(weights: str, model: str = "") -> Licence:
    """Of --weights: a name, or a file; of timm's pretrained weights, by the model's name."""
    if weights == "pretrained" and is_timm(model) and (licence := weights_entry(model).get("license")):
        hub_id = licence if licence in HUB_LICENCES else "other"
        text = f"{licence}, as timm says of the weights of {model}; read its terms before publishing"
        return Licence(hub_id, text, licence if hub_id == "other" else "")
    return LICENCES.get(weights, UNKNOWN)


def name_of(weights: str) -> str:
    """--weights as others may see it: of a file its name, without the folder."""
    return weights if weights in LICENCES else Path(weights).name
