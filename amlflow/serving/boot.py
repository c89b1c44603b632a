"""Starts this folder as a package of its own, in an interpreter where amlflow is not installed.

python boot.py worker --spec FILE --socket-fd N …
python boot.py supervisor FOLDER --socket-fd N
"""

import importlib
import importlib.util
import os
import sys

PACKAGE = "amlflow_serving"


def main() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    # Python puts a script's folder first on its path; a model that imports `loader` or `payload` means its own.
    sys.path[:] = [entry for entry in sys.path if entry != here]
    spec = importlib.util.spec_from_file_location(
        PACKAGE,
        os.path.join(here, "__init__.py"),
        submodule_search_locations=[here],
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)
    importlib.import_module("%s.%s" % (PACKAGE, sys.argv[1])).main(sys.argv[2:])


if __name__ == "__main__":
    main()
