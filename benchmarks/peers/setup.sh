#!/usr/bin/env bash
# setup.sh FOLDER: make the environment of the peers there. A peer that cannot be had is left out, and the benchmark says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${1:?usage: setup.sh FOLDER}

[ -x "$home/bin/python" ] || "${PYTHON:-python3}" -m venv "$home"
while read -r -a packages; do
    [[ ${#packages[@]} -eq 0 || ${packages[0]} == \#* ]] && continue
    echo "installing ${packages[*]}"
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" ||
        echo "left out: ${packages[*]}" >&2
done <"$here/requirements.txt"

# The last major version of oneDNN that had Winograd convolutions. Its files have the names of the other's, so it lives apart.
"$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed --prefix "$home/onednn-2" \
    onednn-cpu-gomp==2022.0.2 onednn-devel-cpu-gomp==2022.0.2 || echo "left out: oneDNN 2.5" >&2

# oneDNN is a C++ library: five C functions around it make it callable.
callable() { # FOLDER with include/ and lib/, SONAME
    [ -f "$1/include/oneapi/dnnl/dnnl.hpp" ] || return 0
    "${CXX:-g++}" -std=c++17 -O2 -shared -fPIC "$here/onednn.cpp" -I"$1/include" -L"$1/lib" "-l:$2" \
        -Wl,-rpath,'$ORIGIN' -o "$1/lib/libonednn_call.so" || echo "left out: oneDNN, $2 (it needs a C++ compiler)" >&2
}
callable "$home" libdnnl.so.3
callable "$home/onednn-2" libdnnl.so.2
