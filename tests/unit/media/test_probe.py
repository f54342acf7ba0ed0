"""Facts of made clips are those they were made with; facts of real files are their manifest's."""

import os
from fractions import Fraction
from pathlib import Path

import av
import pytest

from reelm.errors import MediaError
from reelm.media.probe import probe


def test_tells_what_a_clip_was_made_with(clip):
    facts = probe(clip(count=20, fps=10, size=(64, 48), tone_hz=440))
    assert facts.duration_s == pytest.approx(2.0, abs=0.15)
    assert (facts.width, facts.height, facts.fps) == (64, 48, pytest.approx(10, abs=0.6))
    assert (facts.video_codec, facts.pixel_format, facts.frames) == ("h264", "yuv420p", 20)
    assert (facts.audio_codec, facts.sample_rate, facts.channels) == ("aac", 16000, 2)
    assert (facts.video_streams, facts.audio_streams) == (1, 1)


def test_a_quarter_turn_swaps_the_shown_size(clip):
    facts = probe(clip(rotation=-90))
    assert (facts.rotation, facts.width, facts.height) == (-90, 48, 64)
    assert (facts.coded_width, facts.coded_height) == (64, 48)


def test_oblong_pixels_widen_the_shown_size(clip):
    facts = probe(clip(aspect=Fraction(3, 2)))
    assert (facts.width, facts.height) == (96, 48)


def test_a_title_in_another_encoding_does_no_harm(clip):
    path = clip("latin.mp4", title="cafxxx")
    data = path.read_bytes()
    assert b"cafxxx" in data
    path.write_bytes(data.replace(b"cafxxx", b"caf\xe9\xff\xfe"))
    assert probe(path).frames == 20


def test_counts_the_length_when_the_header_has_none(clip, tmp_path):
    path = clip("long.webm", codec="libvpx", count=20)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89")  # the element that holds the duration
    data[at : at + 2] = b"\xec\x88"[:2] if data[at + 2] == 0x88 else b"\xec\x84"
    data[at + 1] = data[at + 2]
    data[at : at + 11] = b"\xec\x89" + bytes(9)  # a void of the same size
    silent = tmp_path / "no-duration.webm"
    silent.write_bytes(data)
    assert probe(silent).duration_s == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize(
    ("encoder", "name", "codec"),
    [("libsvtav1", "a.mp4", "av1"), ("libvpx-vp9", "b.webm", "vp9"), ("libvpx", "c.webm", "vp8")],
)
def test_a_codec_is_called_by_its_own_name_and_not_its_decoders(clip, encoder, name, codec):
    assert probe(clip(name, codec=encoder, size=(64, 64))).video_codec == codec


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(5000)])
def test_what_is_no_video_is_refused_with_a_reason(tmp_path, content):
    path = tmp_path / "no.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.reason == "cannot be decoded"
    assert str(path) in str(caught.value)


def test_a_missing_file_is_called_missing(tmp_path):
    with pytest.raises(MediaError, match="not found"):
        probe(tmp_path / "nowhere.mp4")


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to("gone.mp4")
    (tmp_path / "file").touch()
    said = {
        "pipe.mp4": "not a file: it is a named pipe",
        "folder.mp4": "not a file: it is a folder",
        "link.mp4": "not found: a link to gone.mp4, which is not there",
        "file/clip.mp4": "not found: NotADirectoryError: .*",
    }
    for name, why in said.items():
        with pytest.raises(MediaError, match=f"{name}: {why}"):
            probe(tmp_path / name)
    with pytest.raises(MediaError, match="not a file: it is a device"):
        probe(Path("/dev/null"))


@pytest.mark.parametrize("raised", [UnicodeDecodeError("utf-8", b"x", 0, 1, "?"), IndexError("x")])
def test_errors_that_are_not_the_decoders_own_are_typed_too(clip, monkeypatch, raised):
    path = clip()

    def broken(*args, **settings):
        raise raised

    monkeypatch.setattr("av.open", broken)
    with pytest.raises(MediaError, match=type(raised).__name__):
        probe(path)


def test_real_files_are_as_their_manifest_says(videos_dev):
    wrong = {}
    for path, entry in videos_dev:
        told = entry["pyav"]
        if "open_err" in told:
            with pytest.raises(MediaError, match="cannot be decoded"):
                probe(path)
            continue
        facts = probe(path)
        mine = {
            "fmt": facts.container,
            "dur": _three(facts.duration_s),
            "vcodec": facts.video_codec,
            "w": facts.coded_width,
            "h": facts.coded_height,
            "pix": facts.pixel_format,
            "fps": _three(facts.fps),
            "acodec": facts.audio_codec,
            "sr": facts.sample_rate,
            "ch": facts.channels,
            "nv": facts.video_streams,
            "na": facts.audio_streams,
            "rot": facts.rotation,
        }
        asked = {key: told.get(key) for key in mine} | {"rot": told["rot"] or 0}
        for kind in ("vcodec", "acodec"):  # the manifest has the decoder's name
            asked[kind] = asked[kind] and av.Codec(asked[kind], "r").canonical_name
        if mine != asked:
            wrong[path.name] = {k: (asked[k], mine[k]) for k in mine if mine[k] != asked[k]}
    assert not wrong


def _three(number):
    return None if number is None else round(number, 3)
