"""Where frames come from: image files, folders of them, and recordings, found by their layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from calibnet_core.data.bags import BagReport, RgbdBag, is_bag, open_rgbd_bag, read_frames
from calibnet_core.data.images import load_depth, load_rgb
from calibnet_core.structures import CameraIntrinsics, FrameError, RgbdFrame

_COLOR_FOLDERS = ("imgs", "img", "images", "image", "rgb", "color", "colour")
_DEPTH_FOLDERS = ("depths", "depth")
COLOR_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEPTH_SUFFIXES = (*COLOR_SUFFIXES, ".npy")


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """A colour image and its depth image, not yet read.

    Attributes:
        name: what to call the frame.
        rgb_path: of the colour image.
        depth_path: of the depth image.
        depth_scale_m: metres in one step of an integer depth image.
        intrinsics: of the colour image, when the folder tells them.
        image_id: number of the image in the folder's annotations, None without annotations.
        file_name: of the colour image as the annotations have it, or its bare name.
    """

    name: str
    rgb_path: Path
    depth_path: Path
    depth_scale_m: float
    intrinsics: CameraIntrinsics | None = None
    image_id: int | None = None
    file_name: str = ""

    @property
    def num_frames(self) -> int:
        """Always 1."""
        return 1

    def load(self) -> RgbdFrame:
        """Read both files.

        Raises:
            FrameError: a file cannot be read, or the two differ in size.
        """
        rgb = load_rgb(self.rgb_path)
        depth = load_depth(self.depth_path, scale_m=self.depth_scale_m)
        try:
            return RgbdFrame(rgb=rgb, **depth, intrinsics=self.intrinsics, name=self.name)
        except FrameError as error:
            raise FrameError(f"{self.rgb_path} with {self.depth_path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class BagFrames:
    """The frames of a recording.

    Attributes:
        name: of the recording.
        bag: the recording and its topics.
    """

    name: str
    bag: RgbdBag

    @property
    def num_frames(self) -> int:
        """An upper limit: colour images recorded."""
        return self.bag.num_color_images

    def frames(self, report: BagReport | None = None) -> Iterator[RgbdFrame]:
        """See `bags.read_frames`."""
        return read_frames(self.bag, report)


FrameSource = ImagePair | BagFrames


def find_frames(
    inputs: Iterable[str | Path],
    *,
    depth: str | Path | None = None,
    depth_scale_m: float = 0.001,
    topics: Mapping[str, str | None] | None = None,
) -> list[FrameSource]:
    """Find the RGB-D frames that paths stand for, without reading the pixels.

    An input is one of

    - a colour image, whose depth is the file `depth` or, without it, lies in a folder `depth` or
      `depths` beside the image's folder under the same name;
    - a folder with a colour folder (imgs, images, rgb, color ...) and a depth folder (depths,
      depth), whose files belong together by name;
    - a folder with a COCO file, or that file, whose images have `file_name` and `depth_file`, and
      may have `depth_scale_m` and `intrinsics`;
    - a rosbag2 folder or one of its files.

    Args:
        inputs: paths, at least one.
        depth: depth file of a single colour image.
        depth_scale_m: metres in one step of integer depth images that do not say it themselves.
        topics: `color_topic`, `depth_topic`, `info_topic` of recordings; what is absent or None is
            found.

    Raises:
        FrameError: an input is missing or of no known layout, or files lack their partner.
        BagError: a recording cannot be read.
    """
    paths = [Path(path) for path in inputs]
    if not paths:
        raise FrameError("no input; give images, folders or recordings")
    if depth is not None and (len(paths) > 1 or not paths[0].is_file()):
        raise FrameError("a depth file belongs to one colour image; give exactly that image")
    sources: list[FrameSource] = []
    for path in paths:
        if depth is None and is_bag(path):
            bag = open_rgbd_bag(path, **dict(topics or {}))
            sources.append(BagFrames(name=bag.name, bag=bag))
        elif path.is_dir():
            sources += _find_in_folder(path, depth_scale_m)
        elif not path.exists():
            raise FrameError(f"{path}: there is no such file or folder; check the path")
        elif path.suffix == ".json":
            sources += _find_in_coco(path, read_coco(path), depth_scale_m)
        elif path.suffix.lower() not in COLOR_SUFFIXES:
            raise FrameError(
                f"{path}: is no recording and no image ({', '.join(COLOR_SUFFIXES)}); leave it out"
            )
        else:
            depth_path = Path(depth) if depth is not None else _depth_beside(path)
            sources.append(_pair(path, depth_path, depth_scale_m))
    return sources


def _pair(rgb_path: Path, depth_path: Path, depth_scale_m: float) -> ImagePair:
    return ImagePair(
        name=rgb_path.stem,
        rgb_path=rgb_path,
        depth_path=depth_path,
        depth_scale_m=depth_scale_m,
        file_name=rgb_path.name,
    )


def _depth_beside(rgb_path: Path) -> Path:
    home = rgb_path.resolve().parent.parent
    for folder in _subfolders(home, _DEPTH_FOLDERS):
        by_stem = files_by_stem(folder, DEPTH_SUFFIXES)
        if rgb_path.stem in by_stem:
            return by_stem[rgb_path.stem]
    raise FrameError(
        f"{rgb_path}: no depth image of that name in a folder 'depth' beside its own; name it with "
        "--depth"
    )


def _find_in_folder(folder: Path, depth_scale_m: float) -> list[ImagePair]:
    documents = {path: read_coco(path) for path in sorted(folder.glob("*.json"))}
    annotated = [path for path, document in documents.items() if _has_depth_files(document)]
    if len(annotated) > 1:
        names = ", ".join(path.name for path in annotated)
        raise FrameError(f"{folder}: several files describe its images: {names}; give one of them")
    if annotated:
        return _find_in_coco(annotated[0], documents[annotated[0]], depth_scale_m)
    colors, depths = _subfolders(folder, _COLOR_FOLDERS), _subfolders(folder, _DEPTH_FOLDERS)
    if not colors or not depths:
        raise FrameError(
            f"{folder}: holds no RGB-D frames; expected a colour folder (one of "
            f"{', '.join(_COLOR_FOLDERS)}) and a depth folder ({', '.join(_DEPTH_FOLDERS)}), "
            "a COCO file whose images have 'depth_file', or a rosbag2 recording"
        )
    if len(colors) > 1 or len(depths) > 1:
        names = ", ".join(path.name for path in (*colors, *depths))
        raise FrameError(f"{folder}: cannot tell which folders belong together: {names}; keep two")
    rgb_paths = files_by_stem(colors[0], COLOR_SUFFIXES)
    depth_paths = files_by_stem(depths[0], DEPTH_SUFFIXES)
    if not rgb_paths:
        raise FrameError(f"{colors[0]}: holds no images ({', '.join(COLOR_SUFFIXES)})")
    lonely = [path.name for stem, path in rgb_paths.items() if stem not in depth_paths]
    _refuse_missing(lonely, f"images of {colors[0]} have no depth of the same name in {depths[0]}")
    return [_pair(path, depth_paths[stem], depth_scale_m) for stem, path in rgb_paths.items()]


def _find_in_coco(path: Path, document: Any, depth_scale_m: float) -> list[ImagePair]:
    if not _has_depth_files(document):
        raise FrameError(
            f"{path}: is no COCO file of RGB-D images; its 'images' need 'file_name' and "
            "'depth_file'"
        )
    home = path.parent
    pairs = []
    for number, entry in enumerate(document["images"]):
        try:
            pairs.append(coco_pair(home, entry, depth_scale_m))
        except FrameError as error:
            raise FrameError(f"{path}: image number {number}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise FrameError(
                f"{path}: image number {number} has an entry that is missing or no number: {error}"
            ) from error
    lonely = [
        str(file)
        for pair in pairs
        for file in (pair.rgb_path, pair.depth_path)
        if not file.is_file()
    ]
    _refuse_missing(lonely, f"files that {path} names are not there")
    return pairs


def coco_pair(home: Path, entry: Mapping[str, Any], depth_scale_m: float = 0.001) -> ImagePair:
    """The files of an entry of `images` in a COCO file that lies in the folder `home`.

    Raises:
        FrameError: a name leaves the folder, or the intrinsics are unusable.
        KeyError, TypeError, ValueError: an entry is missing or no number.
    """
    file_name, depth_file = str(entry["file_name"]), str(entry["depth_file"])
    k, intrinsics = entry.get("intrinsics"), None
    if k is not None:
        intrinsics = CameraIntrinsics(
            height=int(entry["height"]),
            width=int(entry["width"]),
            fx=float(k["fx"]),
            fy=float(k["fy"]),
            cx=float(k["cx"]),
            cy=float(k["cy"]),
        )
    return ImagePair(
        name="_".join(PurePosixPath(file_name).with_suffix("").parts),
        rgb_path=_resolve(home, file_name, _COLOR_FOLDERS),
        depth_path=_resolve(home, depth_file, _DEPTH_FOLDERS),
        depth_scale_m=float(entry.get("depth_scale_m", depth_scale_m)),
        intrinsics=intrinsics,
        image_id=int(entry["id"]) if "id" in entry else None,
        file_name=file_name,
    )


def _resolve(home: Path, name: str, folders: Sequence[str]) -> Path:
    relative = PurePosixPath(name)
    # A downloaded annotation file must not reach outside its own folder.
    if relative.is_absolute() or ".." in relative.parts:
        raise FrameError(f"file name '{name}' leaves the folder; use names inside it")
    beside = home / relative
    if beside.is_file():  # the common case of large sets, whose folder is slow to list
        return beside
    places = [folder / relative for folder in _subfolders(home, folders)]
    return next((path for path in places if path.is_file()), places[-1] if places else beside)


def find_coco_file(path: Path) -> Path:
    """The COCO file of RGB-D images that `path` is, or the one in the folder `path`.

    Raises:
        FrameError: there is none, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FrameError(f"{path}: there is no such file or folder; check the path")
    found = [file for file in sorted(path.glob("*.json")) if _names_depth(read_coco(file))]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no file"
        raise FrameError(
            f"{path}: {names} in it describes RGB-D images ('file_name' and 'depth_file'); give "
            "the annotation file itself"
        )
    return found[0]


def read_coco(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FrameError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FrameError(
            f"{path}: is no readable JSON file ({error}); mend or remove it"
        ) from error


def _has_depth_files(document: Any) -> bool:
    images = document.get("images") if isinstance(document, dict) else None
    return bool(
        isinstance(images, list)
        and images
        and all(
            isinstance(image, dict) and {"file_name", "depth_file"} <= image.keys()
            for image in images
        )
    )


def _names_depth(document: Any) -> bool:
    """Whether some image has a depth file: enough to tell a set with faults from another file."""
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and any(
        isinstance(image, dict) and "depth_file" in image for image in images
    )


def _subfolders(folder: Path, names: Sequence[str]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.lower() in names and p.is_dir())


def files_by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files of a folder by their name without suffix, sorted.

    Raises:
        FrameError: two files share a name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in found:
                raise FrameError(
                    f"{folder}: {found[path.stem].name} and {path.name} share a name; keep one"
                )
            found[path.stem] = path
    return found


def _refuse_missing(names: Sequence[str], what: str, limit: int = 5) -> None:
    if names:
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        raise FrameError(f"{len(names)} {what}: {', '.join(names[:limit])}{more}")
