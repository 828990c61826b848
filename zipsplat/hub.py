"""Files of Hugging Face model repositories.

The client library lists repositories and resolves revisions to commits; `downloads` transfers the
files, so that they are resumed, verified and recorded like all others. The commit is resolved once
and kept in the record beside the file. A file that its owner has renamed is found by its other
known names, or by its digest.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from zipsplat.downloads import TIMEOUT_S, DownloadError, Source, cache_dir, fetch
from zipsplat.file_records import Record

ENDPOINT_VARIABLE = "HF_ENDPOINT"
DEFAULT_ENDPOINT = "https://huggingface.co"

T = TypeVar("T")

logger = logging.getLogger(__name__)


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
        """The path of the file in the cache.

        Raises:
            DownloadError: if its name, as listed by the repository, leads out of the cache.
        """
        parts = PurePosixPath(self.filename).parts
        if not parts or ".." in parts or re.search(r"^/|[\\:\0]", self.filename):
            raise DownloadError(
                f"{self.repository} lists a file {self.filename!r}, which is not a valid name in"
                " the cache; it is not downloaded"
            )
        return _folder(self.repository) / self.filename

    @property
    def page(self) -> str:
        """The URL of its newest version."""
        return f"{_endpoint()}/{self.repository}/resolve/main/{self.filename}"


@dataclass(frozen=True)
class HubRelease:
    """One released file, under its present and former names.

    Args:
        repository: "organisation/repository".
        filenames: preferred one first; the first that exists is downloaded.
        licence: as repositories state it, such as "apache-2.0"; None to ask the repository.
        size: bytes, if known beforehand.
        sha256: hexadecimal digest, if known beforehand.
    """

    repository: str
    filenames: tuple[str, ...]
    licence: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def files(self) -> tuple[HubFile, ...]:
        """The file under each of its names."""
        return tuple(HubFile(self.repository, name) for name in self.filenames)

    def record(self) -> Record | None:
        """The record of the downloaded file, even if the file is gone."""
        return next((found for file in self.files if (found := Record.read(file.cached))), None)


def fetch_hub_file(hub: HubFile) -> Path:
    """The local copy of a file, downloaded if necessary.

    Raises:
        DownloadError: if it cannot be downloaded; the message says where to put it manually.
    """
    return fetch_release(HubRelease(hub.repository, (hub.filename,)))


def fetch_release(release: HubRelease) -> Path:
    """The local copy of a released file, downloaded if necessary.

    Raises:
        DownloadError: if it cannot be downloaded; the message lists the files of the repository, or
            says where to put the file manually.
    """
    for file in release.files:
        if file.cached.exists():
            return fetch(Source(file.page), file.cached)
    recorded = [file for file in release.files if Record.read(file.cached)]
    first = (recorded or release.files)[0]
    hub, source = _ask(first.page, first.cached, lambda: _find(release, first))
    licence = source.licence or "not stated: assume non-commercial"
    logger.warning("fetching %s of %s; licence: %s", hub.filename, hub.repository, licence)
    known = hub if hub.filename in release.filenames else first
    return fetch(source, known.cached)


def repository_record(repository: str) -> Record | None:
    """The record of the one file that was downloaded from a repository."""
    records = sorted(_folder(repository).glob("*.json"))
    return Record.read(records[0].with_suffix("")) if len(records) == 1 else None


def fetch_repository(repository: str, suffixes: Sequence[str]) -> Path:
    """The local copy of the one weights file of a repository.

    Args:
        repository: "organisation/repository".
        suffixes: of weights files, the preferred one first.

    Raises:
        DownloadError: if it cannot be downloaded.
        FileNotFoundError: if the repository contains none or several.
    """
    folder = _folder(repository)
    cached = [path for path in folder.glob("*") if path.suffix in suffixes]
    if len(cached) == 1:
        return fetch_hub_file(HubFile(repository, cached[0].name))
    info = _ask(f"{_endpoint()}/{repository}", folder, lambda: _repository(repository))
    listed = [item.rfilename for item in info.siblings or []]
    files = [name for name in listed if name.endswith(tuple(suffixes))]
    files = [name for name in files if name.endswith(suffixes[0])] or files
    if len(files) != 1:
        raise FileNotFoundError(
            f"the repository {repository} contains {len(files)} weights files "
            f"({', '.join(files[:5])}); give the URL of the one you want"
        )
    return fetch_hub_file(HubFile(repository, files[0]))


def _find(release: HubRelease, first: HubFile) -> tuple[HubFile, Source]:
    """Locate the file under its usual name, or another that the repository lists."""
    record = release.record()
    revision = record.revision if record else None
    try:
        found, source = first, _resolve(first, revision)
    except Exception as error:  # the client's errors and those of its HTTP library
        if _status(error) != 404 or _is_lost_repository(error):
            raise
        info = _repository(release.repository, revision)
        found = _listed(release, info, record.sha256 if record else release.sha256)
        source = _resolve(found, info.sha)
    licence = release.licence or _licence(release.repository, source.revision)
    return found, replace(
        source,
        size=release.size or source.size,
        sha256=release.sha256 or source.sha256,
        licence=licence,
    )


def _listed(release: HubRelease, info: Any, sha256: str | None) -> HubFile:
    """The released file among those that a repository lists."""
    siblings = {item.rfilename: item for item in info.siblings or []}
    for name in release.filenames:
        if name in siblings:
            return HubFile(release.repository, name)
    for name, item in siblings.items():
        if sha256 and getattr(item.lfs, "sha256", None) == sha256:
            return HubFile(release.repository, name)
    names = ", ".join(name for name in siblings if not name.startswith(".")) or "nothing"
    raise DownloadError(
        f"{release.repository} contains no file {' or '.join(release.filenames)} at revision "
        f"{info.sha}, but {names}; give the URL of the one you want, as "
        f"{_endpoint()}/{release.repository}/resolve/{info.sha}/NAME"
    )


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


def _repository(repository: str, revision: str | None = None) -> Any:
    """The hub's information on a repository: commit, files with sizes and digests, tags."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint())
    return api.model_info(repository, revision=revision, timeout=TIMEOUT_S, files_metadata=True)


def _licence(repository: str, revision: str | None) -> str | None:
    """The licence that a repository states, or None if it states none or is not reachable."""
    try:
        tags = _repository(repository, revision).tags or []
    except Exception as error:  # as above; the licence is not essential
        logger.info("the licence of %s could not be read (%s)", repository, error)
        return None
    stated = [tag.removeprefix("license:") for tag in tags if tag.startswith("license:")]
    return stated[0] if stated else None


def _status(error: BaseException) -> int | None:
    """The HTTP status of a client error."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_lost_repository(error: BaseException) -> bool:
    from huggingface_hub.errors import RepositoryNotFoundError

    return isinstance(error, RepositoryNotFoundError)


def _ask(what: str, destination: Path, question: Callable[[], T]) -> T:
    """Query Hugging Face, and turn all its errors into one kind."""
    try:
        return question()
    except (ImportError, DownloadError):
        raise
    except Exception as error:  # the client's errors and those of its HTTP library
        if _is_lost_repository(error):
            raise DownloadError(
                f"cannot download {what}: the repository does not exist (any more), or needs an "
                f"access token. If you have the file, put it at {destination}"
            ) from error
        lines = str(error).strip().splitlines()
        raise DownloadError(
            f"cannot download {what} ({lines[0] if lines else type(error).__name__}). Download it "
            f"manually on a machine with a connection and put it at {destination}"
        ) from error


def _endpoint() -> str:
    return os.environ.get(ENDPOINT_VARIABLE, DEFAULT_ENDPOINT).rstrip("/")


def _folder(repository: str) -> Path:
    return cache_dir() / "huggingface" / repository.replace("/", "--")
