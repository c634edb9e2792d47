"""The layers that have names, as an operator and its arguments.

Sources: ``resnet18`` is Table 1 of Chen et al., Learning to Optimize Tensor Programs (2018), ``mobilenet`` the
depthwise layers of its single-operator figures, and ``vgg16`` the distinct convolutions of VGG-16.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

_RESNET18 = (  # height = width, input channels, output channels, kernel, stride, padding
    (224, 3, 64, 7, 2, 3),
    (56, 64, 64, 3, 1, 1),
    (56, 64, 64, 1, 1, 0),
    (56, 64, 128, 3, 2, 1),
    (56, 64, 128, 1, 2, 0),
    (28, 128, 128, 3, 1, 1),
    (28, 128, 256, 3, 2, 1),
    (28, 128, 256, 1, 2, 0),
    (14, 256, 256, 3, 1, 1),
    (14, 256, 512, 3, 2, 1),
    (14, 256, 512, 1, 2, 0),
    (7, 512, 512, 3, 1, 1),
)
_MOBILENET = (  # height = width, channels, stride
    (112, 32, 1),
    (112, 64, 2),
    (56, 128, 1),
    (56, 128, 2),
    (28, 256, 1),
    (28, 256, 2),
    (14, 512, 1),
    (14, 512, 2),
    (7, 1024, 1),
)
_VGG16 = (  # height = width, input channels, output channels
    (224, 3, 64),
    (224, 64, 64),
    (112, 64, 128),
    (112, 128, 128),
    (56, 128, 256),
    (56, 256, 256),
    (28, 256, 512),
    (28, 512, 512),
    (14, 512, 512),
)


def _layers() -> Iterator[tuple[str, tuple[str, dict[str, int]]]]:
    for number, (hw, ci, co, k, stride, pad) in enumerate(_RESNET18, 1):
        sizes = {"ci": ci, "h": hw, "w": hw, "co": co, "k": k, "stride": stride, "pad": pad}
        yield f"resnet18.C{number}", ("conv2d", sizes)
    for number, (hw, c, stride) in enumerate(_MOBILENET, 1):
        sizes = {"c": c, "h": hw, "w": hw, "k": 3, "stride": stride, "pad": 1}
        yield f"mobilenet.D{number}", ("depthwise_conv2d", sizes)
    for number, (hw, ci, co) in enumerate(_VGG16, 1):
        sizes = {"ci": ci, "h": hw, "w": hw, "co": co, "k": 3, "pad": 1}
        yield f"vgg16.V{number}", ("conv2d", sizes)
    yield "matmul.1024", ("matmul", {"m": 1024, "k": 1024, "n": 1024})


LAYERS: Mapping[str, tuple[str, Mapping[str, int]]] = MappingProxyType(dict(_layers()))
