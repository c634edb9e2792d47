"""Workloads that nobody had in mind when the templates were written: `bench_kernels unseen`.

VGG-16 (Simonyan and Zisserman, 2014), Inception-v3 (Szegedy et al., 2015), MobileNet-v2 (Sandler et al., 2018), and
sizes that no vector and no block divides.
"""

UNSEEN = (
    "vgg16.V1",
    "vgg16.V3",
    "vgg16.V5",
    "vgg16.V8",
    "vgg16.V9",
    "conv2d(ci=3,h=299,w=299,co=32,k=3,stride=2)",  # Inception-v3 from here
    "conv2d(ci=32,h=147,w=147,co=64,k=3,pad=1)",
    "conv2d(ci=64,h=73,w=73,co=80,k=1)",
    "conv2d(ci=48,h=35,w=35,co=64,k=5,pad=2)",
    "conv2d(ci=64,h=35,w=35,co=96,k=3,pad=1)",
    "conv2d(ci=288,h=35,w=35,co=384,k=3,stride=2)",
    "conv2d(ci=768,h=17,w=17,co=192,k=1)",
    "conv2d(ci=448,h=8,w=8,co=384,k=3,pad=1)",
    "conv2d(ci=24,h=56,w=56,co=144,k=1)",  # MobileNet-v2 from here
    "conv2d(ci=96,h=14,w=14,co=576,k=1)",
    "conv2d(ci=320,h=7,w=7,co=1280,k=1)",
    "depthwise_conv2d(c=96,h=112,w=112,k=3,stride=2,pad=1)",
    "depthwise_conv2d(c=144,h=56,w=56,k=3,pad=1)",
    "depthwise_conv2d(c=576,h=14,w=14,k=3,pad=1)",
    "conv2d(ci=13,h=35,w=35,co=13,k=3,pad=1)",  # odd sizes from here
    "conv2d(ci=100,h=17,w=17,co=50,k=3,pad=1)",
    "depthwise_conv2d(c=13,h=35,w=35,k=3,pad=1)",
)
