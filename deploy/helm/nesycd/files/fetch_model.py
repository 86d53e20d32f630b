"""Fetches a model from a Hugging Face hub into the artifact volume, once: fetch_model.py REPOSITORY REVISION FOLDER."""

import shutil
import sys
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

repository, revision, target = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if (target / "config.json").is_file():
    print(f"model: already in {target}")
    sys.exit()
target.parent.mkdir(parents=True, exist_ok=True)
# Aside, then renamed: a pod that is killed leaves nothing that looks whole.
aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
try:
    # Never pickled weights.
    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    snapshot_download(repository, revision=revision, local_dir=aside / "model", allow_patterns=wanted)
    shutil.rmtree(aside / "model" / ".cache", ignore_errors=True)
    if not (aside / "model" / "config.json").is_file() or not list((aside / "model").glob("*.safetensors")):
        sys.exit(
            f"model: {repository} has no config.json with *.safetensors; choose one that has (student.model.repository)"
        )
    (aside / "model").rename(target)
    print(f"model: {repository}@{revision} is in {target}")
except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
    if (target / "config.json").is_file():
        print(f"model: another pod has put it into {target} meanwhile")
        sys.exit()
    sys.exit(
        f"model: {repository}@{revision} cannot be fetched ({type(error).__name__}: {error}); check student.model, its Secret, "
        "networkPolicy.egress.model, or copy the model into the volume and set student.model.source=artifacts"
    )
finally:
    shutil.rmtree(aside, ignore_errors=True)
