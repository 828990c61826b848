"""Structure from motion: SIFT, matching, and COLMAP's mappers.

The global mapper runs first. With its defaults the incremental one is silently wrong when the
camera moves forward, and on few photos (benchmarks/cameras.md). For few photos, two-view tracks
count, because there are hardly any longer ones, and distortion is not estimated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zipsplat.camera_estimation.camera_checks import Evidence, disagreement, warnings
from zipsplat.camera_estimation.capture import Capture, FloatArray, Photo
from zipsplat.camera_estimation.colmap import lens_of, require
from zipsplat.camera_estimation.focal import Focal
from zipsplat.camera_estimation.support import PairMatches, support
from zipsplat.images import image_info
from zipsplat.native_work import interruptible
from zipsplat.posed_images import SparsePoints

GLOBAL, INCREMENTAL = "global", "incremental"
MIN_PHOTOS = 2
_EXHAUSTIVE_LIMIT = 120  # photos; matching all pairs of more takes hours
_SEQUENCE_EXHAUSTIVE_LIMIT = 24
_SEQUENCE_OVERLAP = 10
_PINHOLE_PHOTOS = 5  # up to here, distortion cannot be estimated
_PAIR_PHOTOS = 5  # up to here, points seen in only two photos count
_CHEAP_TO_COMPARE = 8  # photos; up to here, both mappers run
_USUAL_FOCAL = 0.75  # of the longer side: 27 mm (35 mm equivalent), usual for phones and drones
_MAX_FEATURES = 2048
_TRACKS_PER_PHOTO = 300  # for positions; the mapper adds the other tracks afterwards
_LEAST_POINTS = 5  # per photo; with fewer, a connection is accidental
_MIN_MATCHES = 15  # of an overlapping pair; COLMAP's own limit
_STILL_PIXELS = 1  # between matched features; less is noise
_NEARLY = 0.95  # of the best support counts as equally good
_LEAST_SHARE = 3  # at least one in this many photos must be registered

Stage = Callable[[str], None]


class CamerasNotFoundError(ValueError):
    """Structure from motion could not register enough photos.

    Attributes:
        num_registered: number of registered photos.
        num_photos: number of all photos.
    """

    def __init__(self, num_registered: int, num_photos: int, reason: str) -> None:
        self.num_registered, self.num_photos = num_registered, num_photos
        super().__init__(
            f"only {num_registered} of {num_photos} photos could be registered: {reason}"
        )


@dataclass(frozen=True)
class Search:
    """Options of structure from motion.

    Attributes:
        is_sequence: neighbouring photos overlap, as in a video.
        seed: of RANSAC and of the mappers.
        num_threads: for features and matches; the mappers use one, for reproducible results.
    """

    is_sequence: bool = False
    seed: int = 0
    num_threads: int = -1


@dataclass(frozen=True)
class Solution:
    """Registered photos.

    Attributes:
        views: indices of the registered photos, ascending.
        capture: these photos, in the world of the mapper.
        mapper: `global` or `incremental`.
        mean_error: reprojection error in pixels of the matched images.
        support: share of the matches between photos that the cameras explain.
        left_out: index and reason of each photo left out.
        warnings: signs that the result is wrong.
    """

    views: tuple[int, ...]
    capture: Capture
    mapper: str
    mean_error: float
    support: float
    left_out: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()


def solve(
    files: Sequence[Path],
    focals: Sequence[Focal],
    search: Search,
    on_stage: Stage,
    masks: Path | None = None,
) -> Solution:
    """Estimate lenses and poses of photos.

    Photos of equal size and EXIF focal length share a camera.

    Args:
        files: V upright images in one folder.
        focals: the known focal length of each, if any.
        search: order, seed and threads.
        on_stage: called with a description of each stage.
        masks: a folder with a mask NAME.png for each image NAME, of the same size; features are not
            extracted where it is black.

    Raises:
        CamerasNotFoundError: if too few photos could be registered.
        ImportError: if `pycolmap` is not installed.
    """
    if len(files) < MIN_PHOTOS:
        raise CamerasNotFoundError(0, len(files), "cameras need at least 2 photos of one scene")
    require()
    # An interrupted thread may still write into the folder while it is removed.
    with tempfile.TemporaryDirectory(
        prefix="zipsplat-cameras-", ignore_cleanup_errors=True
    ) as folder:
        work = _Work(files, focals, search, Path(folder))
        on_stage("extracting features")
        interruptible(lambda: work.extract(masks))
        on_stage("matching")
        interruptible(work.match)
        on_stage("estimating cameras")
        return work.map()


class _Work:
    """One run: its COLMAP database, and the steps on it."""

    def __init__(
        self, files: Sequence[Path], focals: Sequence[Focal], search: Search, folder: Path
    ) -> None:
        self.pycolmap = require()
        self.files, self.focals, self.search, self.folder = files, focals, search, folder
        self.database = str(folder / "database.db")
        self.is_pinhole = len(files) <= _PINHOLE_PHOTOS
        # Two views do not determine the focal length.
        self.has_fixed_focal = len(files) == 2 or all(focal.is_certain for focal in focals)
        self.pairs: list[PairMatches] = []
        self.pycolmap.set_random_seed(search.seed)

    def extract(self, masks: Path | None = None) -> None:
        """Extract features; one camera per image size and EXIF focal length."""
        with self.pycolmap.Database.open(self.database):
            pass  # creates the file
        photos = str(self.files[0].parent)
        groups: dict[tuple[int, int, Focal], list[str]] = {}
        for file, focal in zip(self.files, self.focals, strict=True):
            info = image_info(file)
            groups.setdefault((info.width, info.height, focal), []).append(file.name)
        for (width, height, focal), names in groups.items():
            reader = self.pycolmap.ImageReaderOptions()
            reader.camera_model = "SIMPLE_PINHOLE" if self.is_pinhole else "SIMPLE_RADIAL"
            reader.default_focal_length_factor = _USUAL_FOCAL
            if focal.factor is not None:
                values = [focal.factor * max(width, height), width / 2, height / 2]
                reader.camera_params = ",".join(map(repr, values + [0.0] * (not self.is_pinhole)))
            self.pycolmap.import_images(
                self.database, photos, self.pycolmap.CameraMode.SINGLE, names, reader
            )
        # Add the images first: otherwise their ids would depend on the order of threads.
        options = self.pycolmap.FeatureExtractionOptions(num_threads=self.search.num_threads)
        options.sift.max_num_features = _MAX_FEATURES
        reader = self.pycolmap.ImageReaderOptions()
        if masks is not None:
            reader.mask_path = str(masks)
        self.pycolmap.extract_features(
            self.database,
            photos,
            [file.name for file in self.files],
            reader_options=reader,
            extraction_options=options,
        )

    def match(self) -> None:
        """Match pairs of photos and verify them geometrically."""
        verification = self.pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = self.search.seed
        matching = self.pycolmap.FeatureMatchingOptions(num_threads=self.search.num_threads)
        options = {"matching_options": matching, "verification_options": verification}
        limit = _SEQUENCE_EXHAUSTIVE_LIMIT if self.search.is_sequence else _EXHAUSTIVE_LIMIT
        if len(self.files) <= limit:
            self.pycolmap.match_exhaustive(self.database, **options)
        else:
            # Quadratic overlap pairs frames 1, 2, 4, 8, … apart instead of all up to ten, which
            # closes loops without the vocabulary tree that COLMAP's loop detection would download.
            # On its own it determines the focal length badly, hence both.
            for is_quadratic in (False, True):
                pairing = self.pycolmap.SequentialPairingOptions(
                    overlap=_SEQUENCE_OVERLAP, quadratic_overlap=is_quadratic
                )
                self.pycolmap.match_sequential(self.database, pairing_options=pairing, **options)

    def map(self) -> Solution:
        """Run the mappers and keep the best supported solution.

        Both run if that is cheap, or if the first fails or looks wrong. The second round starts at
        focal lengths calibrated from the pairs, which helps if the first guess was far off.
        """
        self.pairs = self._matches()
        found: list[Solution] = []
        for is_calibrated in (False, True):
            if is_calibrated:
                if self.has_fixed_focal or not self._is_doubtful(found):
                    break
                self.pycolmap.calibrate_view_graph(self.database)
            for mapper in (GLOBAL, INCREMENTAL):
                solution = self._solution(mapper, f"{mapper}-{is_calibrated}")
                found += [] if solution is None else [solution]
                if len(self.files) > _CHEAP_TO_COMPARE and not self._is_doubtful(found):
                    return self._checked(found)
        return self._checked(found)

    def _is_doubtful(self, found: Sequence[Solution]) -> bool:
        """Whether another run may help: the best solution has warnings or is contested."""
        if not found:
            return True
        best = max(found, key=_rank)
        return (
            bool(best.warnings) or len(best.views) < len(self.files) or bool(_contest(best, found))
        )

    def _solution(self, mapper: str, name: str) -> Solution | None:
        options = self._options(mapper)
        run = self.pycolmap.global_mapping if mapper == GLOBAL else None
        run = run or self.pycolmap.incremental_mapping
        workspace = self.folder / name
        workspace.mkdir()
        photos = str(self.files[0].parent)

        def work() -> Any:
            self.pycolmap.set_random_seed(self.search.seed)  # the generator is thread-local
            return run(self.database, photos, str(workspace), options=options)

        found = interruptible(work)
        if not found:
            return None
        best = max(found.values(), key=lambda model: int(model.num_reg_images()))
        count = best.num_reg_images()
        if count < 2 or best.num_points3D() < _LEAST_POINTS * count:
            return None
        views, capture = _capture(best, self.files)
        error = float(best.compute_mean_reprojection_error())
        share = support(self.pairs, views, capture)
        evidence = Evidence(capture, error, share, self.has_fixed_focal)
        return Solution(views, capture, mapper, error, share, warnings=warnings(evidence))

    def _options(self, mapper: str) -> Any:
        """Options of a mapper; single-threaded, because parallel sums are not bit-reproducible."""
        if mapper == INCREMENTAL:
            options = self.pycolmap.IncrementalPipelineOptions(num_threads=1)
            options.ba_refine_focal_length = not self.has_fixed_focal
            options.min_model_size = 2
            seeded: tuple[Any, ...] = (options, options.mapper, options.triangulation)
        else:
            options = self.pycolmap.GlobalPipelineOptions(num_threads=1)
            part = options.mapper
            part.num_threads = 1
            part.track_required_tracks_per_view = _TRACKS_PER_PHOTO
            part.bundle_adjustment.refine_focal_length = not self.has_fixed_focal
            seeded = (options, part, part.global_positioning, part.rotation_averaging)
            seeded = (*seeded, part.retriangulation)
            if len(self.files) <= _PAIR_PHOTOS:
                options.min_model_size = 2
                part.track_min_num_views_per_track = 2
                part.global_positioning.min_num_view_per_track = 2
                part.bundle_adjustment.min_track_length = 2
                part.retriangulation.ignore_two_view_tracks = False
        for item in seeded:
            item.random_seed = self.search.seed
        return options

    def _checked(self, found: Sequence[Solution]) -> Solution:
        """The best supported solution, with its warnings and the reasons for photos left out.

        Raises:
            CamerasNotFoundError: if too few photos are registered.
        """
        total = len(self.files)
        best = max(found, key=_rank, default=None)
        count = 0 if best is None else len(best.views)
        if best is None or count < max(2, total // _LEAST_SHARE):
            raise CamerasNotFoundError(count, total, _failure_reason(self.pairs))
        links = self._links()
        left_out = tuple(
            (view, _reason(links[view])) for view in range(total) if view not in best.views
        )
        return replace(best, left_out=left_out, warnings=(*best.warnings, *_contest(best, found)))

    def _matches(self) -> list[PairMatches]:
        """All verified matches."""
        view_of_name = {file.name: view for view, file in enumerate(self.files)}
        found = []
        with self.pycolmap.Database.open(self.database) as database:
            view_of = {i.image_id: view_of_name[i.name] for i in database.read_all_images()}
            pixels = {i: database.read_keypoints(i)[:, :2].astype(np.float64) for i in view_of}
            for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
                one, two = self.pycolmap.pair_id_to_image_pair(pair)
                matches = np.asarray(geometry.inlier_matches).reshape(-1, 2)
                ends = np.stack([pixels[one][matches[:, 0]], pixels[two][matches[:, 1]]])
                found.append(PairMatches((view_of[one], view_of[two]), ends))
        return found

    def _links(self) -> list[int]:
        """Number of other photos with verified matches, for each photo."""
        links = [0] * len(self.files)
        for pair in self.pairs:
            if pair.pixels.shape[1] >= _MIN_MATCHES:
                for view in pair.views:
                    links[view] += 1
        return links


def _rank(solution: Solution) -> float:
    """The rank of a solution: its support, minus a twentieth for each warning."""
    return solution.support * _NEARLY ** len(solution.warnings)


def _contest(best: Solution, found: Sequence[Solution]) -> tuple[str, ...]:
    """A warning if another solution differs but has nearly the same support."""
    for other in found:
        if other is not best and other.support >= _NEARLY * best.support:
            warning = disagreement(best.capture, other.capture)
            if warning is not None:
                return (warning,)
    return ()


def _failure_reason(pairs: Sequence[PairMatches]) -> str:
    """Why no cameras could be estimated."""
    shifts = [np.linalg.norm(pair.pixels[0] - pair.pixels[1], axis=-1) for pair in pairs]
    if shifts and float(np.median(np.concatenate(shifts))) < _STILL_PIXELS:
        return "they all show the same image; the camera must move from one to the next"
    return (
        "photos need texture, an overlap of more than half between neighbours, and a camera that"
        " moves rather than only turns"
    )


def _reason(num_links: int) -> str:
    if num_links == 0:
        return "it has no matches with the other photos"
    return f"it has matches with {num_links} other photos, but too few to register it"


def _capture(model: Any, files: Sequence[Path]) -> tuple[tuple[int, ...], Capture]:
    """The registered photos of a model in the order of the files, with their points."""
    view_of_name = {file.name: view for view, file in enumerate(files)}
    placed = [image for image in model.images.values() if image.has_pose]
    placed.sort(key=lambda image: view_of_name[image.name])
    views = tuple(view_of_name[image.name] for image in placed)
    photos = tuple(
        Photo(files[view], lens_of(model.cameras[image.camera_id]), _world_from_camera(image))
        for view, image in zip(views, placed, strict=True)
    )
    order = {image.image_id: place for place, image in enumerate(placed)}
    return views, Capture(photos, _points(model, order))


def _world_from_camera(image: Any) -> FloatArray:
    camera_from_world = np.eye(4)
    camera_from_world[:3] = image.cam_from_world().matrix()
    return np.asarray(np.linalg.inv(camera_from_world), dtype=np.float64)


def _points(model: Any, order: dict[int, int]) -> SparsePoints:
    pixels = {
        number: np.array([point.xy for point in model.images[number].points2D]) for number in order
    }
    points = [model.points3D[number] for number in sorted(model.points3D)]
    tracks = [
        [(item.image_id, item.point2D_idx) for item in point.track.elements] for point in points
    ]
    tracks = [sorted(pair for pair in track if pair[0] in order) for track in tracks]
    rows = [pair for track in tracks for pair in track]
    return SparsePoints(
        np.array([point.xyz for point in points], np.float32),
        np.array([point.color for point in points], np.float32) / np.float32(255),
        np.array([point.error for point in points], np.float32),
        np.cumsum([0, *map(len, tracks)]).astype(np.int64),
        np.array([order[image] for image, _ in rows], np.int64),
        np.array([pixels[image][feature] for image, feature in rows], np.float32).reshape(-1, 2),
    )
