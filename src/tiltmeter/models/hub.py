"""The Hugging Face hub: fetching the safe files of a model, and what its errors mean for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.models.folders import WANTED


def from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download

    with hub_mistakes(model):
        return Path(snapshot_download(model, allow_patterns=list(WANTED)))


@contextmanager
def hub_mistakes(model: str) -> Iterator[None]:
    """Turns what the hub refuses into UserErrors that name `model`."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repository = "/".join(model.split(":")[0].split("/")[:2])
    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"the hub model {model} is gated: its owner must give you access",
            fix=f"ask at https://huggingface.co/{repository}, then: hf auth login",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(
            f"there is neither a folder nor a hub model called {model!r}",
            fix="check the spelling; for a private model log in first: hf auth login",
        ) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"the hub cannot be reached and {model} is not on this machine",
            fix="check the connection, or give the path of a local folder",
        ) from None
    except EntryNotFoundError:
        raise UserError(
            f"the hub repository {repository} has no such file: {model}",
            fix=f"choose one of those at https://huggingface.co/{repository}/tree/main",
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"fetching {model} from the hub failed: {type(error).__name__}: {str(error)[:200]}",
            fix="try again, or give the path of a local folder",
        ) from None
