#!/usr/bin/env bash
# Runs transformers' own common tests on UniRS. They are in its source distribution only, so it is fetched and unpacked
# outside the repository; what it lacks (its tests/ sub-folders) is stubbed. Usage: run.sh .venv/bin
set -euo pipefail
bin=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
version=$("$bin/python" -c "import transformers; print(transformers.__version__)")
work=${TMPDIR:-/tmp}/unirs-common-$version
if [ ! -f "$work/ready" ]; then
    mkdir -p "$work"
    "$bin/python" -m pip install --quiet parameterized
    "$bin/python" -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "transformers==$version"
    tar xzf "$work/transformers-$version.tar.gz" -C "$work" "transformers-$version/tests"
    tests=$work/transformers-$version/tests
    mkdir -p "$tests/exporters" "$tests/generation" "$tests/models/unirs"
    touch "$tests/__init__.py" "$tests/exporters/__init__.py" "$tests/generation/__init__.py"
    touch "$tests/models/__init__.py" "$tests/models/unirs/__init__.py"
    echo "class ExportTesterMixin: pass" > "$tests/exporters/test_export.py"
    echo "class GenerationTesterMixin: pass" > "$tests/generation/test_utils.py"
    touch "$work/ready"
fi
cd "$work/transformers-$version"
# Copied below the mixins' package, so that their relative imports hold.
cp "$here/common_modeling.py" tests/models/unirs/test_modeling_unirs.py
cp "$here/common_processing.py" tests/models/unirs/test_processing_unirs.py
cp "$here/../tiny.py" tests/models/unirs/tiny.py
cp "$here/fetch_hub_objects_for_ci.py" .
HF_HUB_OFFLINE=1 PYTHONPATH=. "$bin/python" -m pytest -q -p no:cacheprovider --rootdir=. -o addopts= \
    tests/models/unirs "${@:2}"
