"""Files of Hugging Face model repositories, through `downloads`.

The client library answers what a repository holds and which commit a revision names; the bytes
come through `downloads`, so that they are resumed, verified and recorded like everything else. The
commit is resolved once: from then on the record beside the file decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from zipsplat.downloads import TIMEOUT_S, DownloadError, Source, cache_dir, fetch
from zipsplat.file_records import Record

ENDPOINT_VARIABLE = "HF_ENDPOINT"
DEFAULT_ENDPOINT = "https://huggingface.co"

T = TypeVar("T")


@dataclass(frozen=True)
class HubFile:
    """A file in a Hugging Face model repository.

    Args:
        repository: "organisation/repository".
        filename: path inside it.
    """

    repository: str
    filename: str

    @property
    def cached(self) -> Path:
        """Where the file is or will be."""
        return _folder(self.repository) / self.filename

    @property
    def page(self) -> str:
        """The address of its newest version."""
        return f"{_endpoint()}/{self.repository}/resolve/main/{self.filename}"


def fetch_hub_file(hub: HubFile) -> Path:
    """The local copy of a file, fetched if it is not there.

    Raises:
        DownloadError: if it cannot be fetched; the message says where to put it by hand.
    """
    if hub.cached.exists():
        return fetch(Source(hub.page), hub.cached)
    record = Record.read(hub.cached)
    revision = record.revision if record else None
    source = _ask(hub.page, hub.cached, lambda: _resolve(hub, revision))
    return fetch(source, hub.cached)


def fetch_repository(repository: str, suffixes: Sequence[str]) -> Path:
    """The local copy of the one weights file of a repository.

    Args:
        repository: "organisation/repository".
        suffixes: of weights files, the preferred one first.

    Raises:
        DownloadError: if it cannot be fetched.
        FileNotFoundError: if the repository holds none or several.
    """
    folder = _folder(repository)
    cached = [path for path in folder.glob("*") if path.suffix in suffixes]
    if len(cached) == 1:
        return fetch_hub_file(HubFile(repository, cached[0].name))
    listed = _ask(f"{_endpoint()}/{repository}", folder, lambda: _list_files(repository))
    files = [name for name in listed if name.endswith(tuple(suffixes))]
    files = [name for name in files if name.endswith(suffixes[0])] or files
    if len(files) != 1:
        raise FileNotFoundError(
            f"the repository {repository} holds {len(files)} weights files "
            f"({', '.join(files[:5])}); give the address of the one you want"
        )
    return fetch_hub_file(HubFile(repository, files[0]))


def _resolve(hub: HubFile, revision: str | None) -> Source:
    """Commit, size and digest of a file; large files have their SHA-256 as ETag."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    def url(commit: str | None) -> str:
        return str(hf_hub_url(hub.repository, hub.filename, revision=commit, endpoint=_endpoint()))

    found = get_hf_file_metadata(url(revision))
    token = get_token()
    return Source(
        url=url(found.commit_hash),
        sha256=found.etag if re.fullmatch("[0-9a-f]{64}", found.etag or "") else None,
        size=found.size,
        revision=found.commit_hash,
        headers={"Authorization": f"Bearer {token}"} if token else {},
    )


def _list_files(repository: str) -> list[str]:
    from huggingface_hub import HfApi

    info = HfApi(endpoint=_endpoint()).model_info(repository, timeout=TIMEOUT_S)
    return [item.rfilename for item in info.siblings or []]


def _ask(what: str, destination: Path, question: Callable[[], T]) -> T:
    """Ask Hugging Face; its many ways to fail become one."""
    try:
        return question()
    except ImportError:
        raise
    except Exception as error:  # the client's errors and those of its HTTP library
        lines = str(error).strip().splitlines()
        raise DownloadError(
            f"cannot fetch {what} ({lines[0] if lines else type(error).__name__}). Where there is "
            f"a connection, download it by hand and put it at {destination}"
        ) from error


def _endpoint() -> str:
    return os.environ.get(ENDPOINT_VARIABLE, DEFAULT_ENDPOINT).rstrip("/")


def _folder(repository: str) -> Path:
    return cache_dir() / "huggingface" / repository.replace("/", "--")
