"""examples/serve.py: right answers, right refusals, bounded memory, and the page in a browser."""

import asyncio
import contextlib
import importlib.util
import io
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import keras
import numpy as np
import onnx
import pytest
from photographs import photograph
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import keras_resnets as kr
from keras_resnets.preparation import Preparation

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = 64
LABELS = [f"sort {i}" for i in range(9)] + ["<b>odd & even</b>"]
MAX_BYTES = 300_000
MAX_PIXELS = 1_000_000


def example(name: str):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


serve, load_test = example("serve"), example("load_test")


def classifier_of(name: str, channels: int = 3, **changes) -> keras.Model:
    """A small network whose random weights tell images apart."""
    keras.utils.set_random_seed(1)
    model = kr.create_model(
        name, weights=None, classes=len(LABELS), input_shape=(SIZE, SIZE, channels), **changes
    )
    *_, classifier = model.layers
    classifier.kernel.assign(np.random.default_rng(2).normal(size=classifier.kernel.shape))
    return model


def exported(model: keras.Model, path: Path, **options) -> Path:
    options = dict(labels=LABELS, preprocessing=Preparation(size=SIZE)) | options
    kr.export(model, path, format="onnx", **options)
    return path


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return classifier_of("resnet18", depths=(1, 1, 1, 1), planes=(16, 16, 32, 64))


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    return exported(model, tmp_path_factory.mktemp("serve") / "model.onnx")


@pytest.fixture(scope="module")
def service(path):
    """A running service: its client and its process."""
    options = ("--max-bytes", str(MAX_BYTES), "--max-pixels", str(MAX_PIXELS))
    with (
        load_test.service(path, *options) as (address, process),
        httpx2.Client(base_url=address, timeout=60) as client,
    ):
        yield client, process


@pytest.fixture
def client(service) -> httpx2.Client:
    """A client of the running service, which is as well afterwards as it was before."""
    client, process = service
    yield client
    assert process.is_running()
    for _ in range(50):  # Broken connections take a moment to be noticed.
        health = client.get("/health").json()
        if health["in_hand"] == 0:
            break
        time.sleep(0.1)
    assert (health["status"], health["in_hand"]) == ("ok", 0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(name: str = "chelsea") -> Image.Image:
    return Image.fromarray(photograph(name)).resize((160, 120))


def predictions(response: httpx2.Response) -> dict[str, float]:
    """Probability by label, in the answer's order."""
    assert response.status_code == 200, response.text
    return {entry["label"]: entry["probability"] for entry in response.json()["predictions"]}


# Answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_the_answer_is_that_of_the_keras_model(client, model, name, tmp_path):
    file = tmp_path / "image.jpg"
    Image.fromarray(photograph(name)).save(file)
    images = kr.preprocessing.Preprocessor(SIZE, backend="pil").load(file)
    expected = model.predict(images, verbose=0)[0]

    answer = predictions(client.post("/predict?top=5", content=file.read_bytes()))

    best = np.argsort(-expected)[:5]
    assert list(answer) == [LABELS[i] for i in best]
    np.testing.assert_allclose(list(answer.values()), expected[best], atol=1e-5)


@pytest.mark.parametrize("size", [(96, 160), (64, 64)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_prepared_as_for_the_keras_model(path, size, interpolation):
    classifier = serve.Classifier(path)
    classifier.size = size
    classifier.metadata |= dict(interpolation=interpolation, crop_pct=0.9)
    for name in ("astronaut", "coffee", "chelsea"):
        image = photograph(name)[:257]
        preprocess = kr.preprocessing.Preprocessor(
            size, crop_pct=0.9, interpolation=interpolation, backend="pil"
        )
        expected = keras.ops.convert_to_numpy(preprocess(image))
        values = classifier.values(classifier.crop(Image.fromarray(image)))
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_a_model_that_prepares_images_itself_gets_grey_levels(model, path, tmp_path):
    whole = serve.Classifier(exported(model, tmp_path / "a.onnx", include_preprocessing=True))
    bare = serve.Classifier(path)
    crop = whole.crop(picture())
    values = whole.values(crop)
    assert values.dtype == "uint8"
    np.testing.assert_array_equal(values, np.asarray(crop))
    [(found, _)] = whole.answer([values], False)
    [(expected, _)] = bare.answer([bare.values(crop)], False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def assert_heat_is_that_of_grad_cam(model: keras.Model, path: Path, mode: str, atol: float) -> None:
    classifier = serve.Classifier(path)
    names = ("astronaut", "coffee", "chelsea")
    crops = [classifier.crop(picture(name).convert(mode)) for name in names]
    images = np.stack([classifier.values(crop) for crop in crops])
    for index in (0, 4):
        expected = kr.grad_cam(model, images, index)
        assert expected.max() == 1
        for image, wanted in zip(images, expected, strict=True):
            [(_, features)] = classifier.answer([image], with_features=True)
            heat = classifier.heat(features, index)[None, ..., None]
            heat = keras.ops.image.resize(heat, (SIZE, SIZE), "bilinear")
            heat = keras.ops.convert_to_numpy(heat)[0, ..., 0]
            np.testing.assert_allclose(heat / (heat.max() or 1), wanted, atol=atol)


def test_the_heat_is_that_of_grad_cam(model, path):
    assert_heat_is_that_of_grad_cam(model, path, "RGB", atol=1e-4)


@pytest.mark.parametrize(("precision", "atol"), [("float32", 1e-4), ("int8-dynamic", 0.1)])
def test_the_heat_of_a_rexnet_for_grey_images_is_that_of_grad_cam(precision, atol, tmp_path):
    model = classifier_of("rexnet_100", channels=1, width=0.5, depth=0.4)
    path = exported(model, tmp_path / "rexnet.onnx", precision=precision)
    assert_heat_is_that_of_grad_cam(model, path, "L", atol)


def test_a_network_that_ends_otherwise_has_no_heat_and_is_served(path, tmp_path):
    file = onnx.load(path)
    pool = next(node for node in file.graph.node if node.op_type == "GlobalAveragePool")
    pool.op_type = "GlobalMaxPool"
    onnx.save(file, tmp_path / "other.onnx")
    classifier = serve.Classifier(tmp_path / "other.onnx")
    assert not classifier.has_grad_cam
    image = classifier.values(classifier.crop(picture()))
    [(probabilities, features)] = classifier.answer([image], with_features=False)
    assert probabilities.shape == (len(LABELS),)
    assert features is None


def test_a_model_of_a_fixed_batch_answers_as_one_of_any(path, tmp_path):
    file = onnx.load(path)
    for value in (*file.graph.input, *file.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(file, tmp_path / "fixed.onnx")
    free, fixed = serve.Classifier(path), serve.Classifier(tmp_path / "fixed.onnx")
    assert (free.fixed_batch, fixed.fixed_batch) == (None, 4)
    images = [free.values(free.crop(picture(name))) for name in ("coffee", "astronaut", "chelsea")]
    for one, other in zip(free.answer(images, True), fixed.answer(images, True), strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-6)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "stated",
    [
        Preparation(
            size=48, crop_pct=0.9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        Preparation(size=(40, 56)),
    ],
    ids=["square", "rectangle"],
)
def test_the_size_that_weights_were_evaluated_at_is_used_of_a_model_for_any(stated, tmp_path):
    model = kr.ResNet18(weights=None, depths=(1,), planes=(8,), classes=3)
    path = exported(model, tmp_path / "any.onnx", labels=None, preprocessing=stated)
    classifier = serve.Classifier(path)
    assert classifier.size == stated.size
    crop = classifier.crop(picture())
    [(found, _)] = classifier.answer([classifier.values(crop)], False)
    preprocess = kr.layers.Preprocessor.of(stated, "pil")
    expected = model(preprocess(np.asarray(picture()))[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert serve.Classifier(path, image_size=80).size == (80, 80)


def test_a_model_of_one_size_takes_no_other(path):
    assert serve.Classifier(path, image_size=SIZE).size == (SIZE, SIZE)
    with pytest.raises(ValueError, match="must be left out for a model of one size, 64x64"):
        serve.Classifier(path, image_size=80)


# Probabilities and values -------------------------------------------------------------------------


def ending_in(tmp_path: Path, units: int, activation: str | None) -> tuple[keras.Model, Path]:
    """A small model that ends so, and its file."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(units, activation, kernel_initializer="glorot_normal"),
        ]
    )
    path = exported(model, tmp_path / "m.onnx", labels=None, preprocessing=Preparation(size=8))
    return model, path


@pytest.mark.parametrize(
    ("units", "activation", "answers", "makes"),
    [
        (3, None, "probabilities", keras.ops.softmax),
        (3, "softmax", "probabilities", None),
        (3, "log_softmax", "probabilities", keras.ops.exp),
        (3, "sigmoid", "probabilities", None),
        (1, "sigmoid", "probabilities", None),
        (1, None, "values", None),
        (1, "relu", "values", None),
        (2, "tanh", "values", None),
    ],
)
def test_outputs_become_probabilities_only_where_they_are_those_of_classes(
    units, activation, answers, makes, tmp_path
):
    model, path = ending_in(tmp_path, units, activation)
    classifier = serve.Classifier(path)
    assert classifier.answers == answers
    images = [classifier.values(classifier.crop(picture(name))) for name in ("coffee", "chelsea")]
    expected = model(np.stack(images))
    expected = keras.ops.convert_to_numpy(makes(expected) if makes else expected)
    found = np.stack([answer for answer, _ in classifier.answer(images, False)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_number_is_answered_as_a_number(tmp_path):
    model, path = ending_in(tmp_path, 1, None)
    classifier = serve.Classifier(path)
    app = serve.create_app(classifier, max_batch=1, max_wait=0.001, max_bytes=MAX_BYTES, queue=4)

    async def ask() -> dict:
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://here") as client,
        ):
            health = (await client.get("/health")).json()
            assert health["answers"] == "values"
            return (await client.post("/predict", content=encoded(picture()))).json()

    [answer] = asyncio.run(ask())["predictions"]
    expected = float(model(classifier.values(classifier.crop(picture()))[None])[0, 0])
    assert answer == {"index": 0, "label": "output 0", "value": pytest.approx(expected, abs=1e-5)}


# Images of all kinds ------------------------------------------------------------------------------


def deep_grey() -> Image.Image:
    """Grey of 16 bits, none a multiple of 257."""
    return Image.fromarray(np.asarray(picture().convert("L")).astype("uint16") * 251)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter to the right.
    return exif


KINDS = {
    "grey": lambda: encoded(picture().convert("L")),
    "grey and alpha": lambda: encoded(picture().convert("LA")),
    "rgba": lambda: encoded(picture().convert("RGBA")),
    "black and white": lambda: encoded(picture().convert("1")),
    "palette": lambda: encoded(picture().quantize(64)),
    "cmyk jpeg": lambda: encoded(picture().convert("CMYK"), "JPEG"),
    "cmyk tiff": lambda: encoded(picture().convert("CMYK"), "TIFF"),
    "lab tiff": lambda: encoded(Image.new("LAB", (80, 60), (90, 130, 120)), "TIFF"),
    "webp": lambda: encoded(picture(), "WEBP"),
    "bmp": lambda: encoded(picture(), "BMP"),
    "animated gif": lambda: encoded(
        picture(), "GIF", save_all=True, append_images=[picture("coffee")]
    ),
    "one pixel": lambda: encoded(Image.new("RGB", (1, 1), "red")),
    "16 bits": lambda: encoded(deep_grey()),
    "16 bits of a tiff": lambda: encoded(deep_grey(), "TIFF"),
    "palette bmp": lambda: encoded(picture().quantize(16), "BMP"),
    "palette with a transparent colour": lambda: encoded(picture().quantize(64), transparency=b"7"),
    "turned by its tag": lambda: encoded(picture(), exif=turned()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_kind_is_taken_as_by_the_library(client, model, kind, tmp_path):
    file = tmp_path / "image"
    file.write_bytes(KINDS[kind]())
    images = kr.preprocessing.Preprocessor(SIZE, backend="pil").load(file)
    expected = model.predict(images, verbose=0)[0]
    answer = predictions(client.post("/predict?top=10", content=file.read_bytes()))
    np.testing.assert_allclose([answer[label] for label in LABELS], expected, atol=1e-5)


def test_more_classes_than_there_are_give_all(client):
    assert len(predictions(client.post("/predict?top=99", content=encoded(picture())))) == 10


# Bad input ----------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


BAD = {
    "nothing": (400, "empty", lambda: b""),
    "text": (415, "bytes of an image", lambda: b"this is no image"),
    "svg": (415, "bytes of an image", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "postscript": (415, "bytes of an image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n"),
    "noise": (415, "bytes of an image", lambda: np.random.default_rng(0).bytes(5000)),
    "32-bit grey": (415, "8 or 16 bits", lambda: encoded(picture().convert("F"), "TIFF")),
    "half a png": (422, "damaged", lambda: encoded(picture())[:5000]),
    "half a jpeg": (422, "damaged", lambda: encoded(picture(), "JPEG")[:2000]),
    "half a gif": (422, "damaged", lambda: encoded(picture(), "GIF")[:3000]),
    "half a tiff": (422, "damaged", lambda: encoded(picture(), "TIFF")[:3000]),
    "a header alone": (415, "bytes of an image", lambda: b"\x89PNG\r\n\x1a\n"),
    "a bomb": (413, "pixels", lambda: bomb(50_000, 50_000)),
    "a large image": (413, "pixels", lambda: encoded(Image.new("1", (1001, 1000)))),
    "a line": (413, "narrow", lambda: encoded(Image.new("RGB", (20_000, 1)))),
    "too many bytes": (413, "300,000 bytes", lambda: bytes(MAX_BYTES + 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_good_image_is_refused_with_the_reason(client, case):
    status, reason, body = BAD[case]
    response = client.post("/predict", content=body())
    assert response.status_code == status, response.text
    assert reason in response.json()["detail"]


def test_an_image_of_just_the_largest_size_is_taken(client):
    body = encoded(Image.new("1", (1000, 1000)))
    assert client.post("/predict", content=body).status_code == 200


def test_a_form_is_refused_with_the_right_command(client):
    response = client.post("/predict", files={"file": encoded(picture())})
    assert response.status_code == 415
    assert "--data-binary" in response.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_wrong_method_is_405(client, method):
    assert client.request(method, "/predict").status_code == 405


def test_wrong_numbers_are_422(client):
    for top in ("0", "-1", "many"):
        assert client.post(f"/predict?top={top}", content=encoded(picture())).status_code == 422


def test_damaged_files_of_every_format_never_break_the_service(client):
    random = np.random.default_rng(5)
    statuses = Counter()
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"):
        whole = np.frombuffer(encoded(picture(), kind), "uint8")
        for _ in range(15):
            body = whole.copy()
            places = random.integers(0, min(len(body), 600), 8)
            body[places] = random.integers(0, 256, 8)
            statuses[client.post("/predict", content=body.tobytes()).status_code] += 1
    assert set(statuses) <= {200, 413, 415, 422}, statuses
    assert statuses[422] > 0


def test_an_endless_upload_is_cut_off_and_takes_no_memory(service):
    client, process = service
    client.post("/predict", content=encoded(picture()))
    before = process.memory_info().rss

    def endless():
        for _ in range(2000):
            yield bytes(100_000)

    with contextlib.suppress(httpx2.WriteError):  # The service need not hear it to its end.
        assert client.post("/predict", content=endless()).status_code == 413
    assert process.memory_info().rss - before < 20e6
    assert predictions(client.post("/predict", content=encoded(picture())))


def test_bombs_from_many_clients_take_no_memory(service):
    client, process = service
    client.post("/predict", content=encoded(picture()))
    before = process.memory_info().rss
    bodies = [bomb(60_000, 60_000), encoded(Image.new("1", (9_000, 9_000)))] * 20
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post("/predict", content=body), bodies))
    assert {answer.status_code for answer in answers} == {413}
    assert process.memory_info().rss - before < 20e6


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(client):
    address = (client.base_url.host, client.base_url.port)
    for _ in range(30):
        with socket.create_connection(address) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nhalf"
            )
    assert predictions(client.post("/predict", content=encoded(picture())))


class Upload:
    """A request whose body comes as an iterator says."""

    def __init__(self, stream) -> None:
        self.headers, self.stream = {}, stream


def test_an_upload_that_stalls_is_given_up(monkeypatch):
    async def stalls():
        yield b"some"
        await asyncio.sleep(60)

    monkeypatch.setattr(serve, "UPLOAD_SECONDS", 0.05)
    with pytest.raises(serve.HTTPException) as caught:
        asyncio.run(serve.read_body(Upload(stalls), MAX_BYTES))
    assert caught.value.status_code == 408


# Many at once -------------------------------------------------------------------------------------


def post_all(address, bodies: list[bytes]) -> list[httpx2.Response]:
    """All requests at once, each over a connection of its own."""

    async def post() -> list[httpx2.Response]:
        limits = httpx2.Limits(max_connections=len(bodies))
        async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
            return await asyncio.gather(
                *(client.post("/predict?top=10", content=body) for body in bodies)
            )

    return asyncio.run(post())


def test_200_clients_at_once_all_get_their_own_answer_in_batches(client):
    images = [picture(name).rotate(9 * i) for name in ("chelsea", "coffee") for i in range(5)]
    bodies = [encoded(image) for image in images]
    alone = [predictions(client.post("/predict?top=10", content=body)) for body in bodies]
    before = client.get("/health").json()
    answers = post_all(client.base_url, [bodies[i % 10] for i in range(200)])
    for i, answer in enumerate(answers):
        assert predictions(answer) == pytest.approx(alone[i % 10], abs=1e-5)
    after = client.get("/health").json()
    assert after["images"] - before["images"] == 200
    assert after["batches"] - before["batches"] < 100


def test_who_is_too_many_hears_503_and_the_others_get_answers(path):
    with load_test.service(path, "--queue", "4") as (address, process):
        statuses = Counter(
            answer.status_code for answer in post_all(address, [encoded(picture())] * 200)
        )
        assert set(statuses) == {200, 503}
        assert statuses.total() == 200
        assert httpx2.post(f"{address}/predict", content=encoded(picture())).status_code == 200
        assert process.is_running()


def test_a_batch_that_fails_is_told_and_the_next_one_is_computed():
    def run(items: list) -> list:
        if "bad" in items:
            raise RuntimeError("no luck")
        return [item.upper() for item in items]

    async def go() -> None:
        batcher = serve.Batcher(run, max_batch=2, max_wait=0.01)
        worker = asyncio.create_task(batcher.work())
        for _ in range(2):
            first, second = await asyncio.gather(
                batcher.submit("bad"), batcher.submit("a"), return_exceptions=True
            )
            assert isinstance(first, RuntimeError)
            assert isinstance(second, RuntimeError)
            assert await asyncio.gather(*map(batcher.submit, "bcd")) == ["B", "C", "D"]
        assert (batcher.items, batcher.batches) == (10, 6)
        worker.cancel()

    asyncio.run(go())


@pytest.mark.long
def test_under_load_there_are_no_errors_and_memory_stays_flat(path):
    images = [load_test.photograph(seed) for seed in range(8)]
    with load_test.service(path) as (address, process):
        load = load_test.measure(
            address, process, images, clients=50, seconds=6, warm_up=4, grad_cam=True
        )
    print(load)
    assert load.errors == 0, load
    assert load.answers[200] > 100, load
    assert load.growth < 50e6, load


# Starting -----------------------------------------------------------------------------------------


def run_serve(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, EXAMPLES / "serve.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_file_that_cannot_be_served_is_refused_with_the_reason(path, tmp_path):
    (tmp_path / "text.onnx").write_text("no model")
    bare = onnx.load(path)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    exported(classifier_of("resnet18", depths=(1,), planes=(8,)), tmp_path / "unstated.onnx",
             preprocessing=None)  # fmt: skip
    maps = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Conv2D(2, 3)])
    exported(maps, tmp_path / "maps.onnx", labels=None)
    for name, reason in {
        "unstated.onnx": "lacks crop_pct, interpolation, mean, std: export the model anew with",
        "maps.onnx": "must return a number for each class",
    }.items():
        with pytest.raises(ValueError, match=reason):
            serve.Classifier(tmp_path / name)
    for name, reason in {
        "missing.onnx": "No such file",
        "text.onnx": "must be an ONNX file",
        "bare.onnx": "must be written by keras_resnets.export",
    }.items():
        done = run_serve(tmp_path / name)
        assert done.returncode == 2
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_refused_with_the_reason(service, path):
    client, _ = service
    done = run_serve(path, "--port", client.base_url.port)
    assert done.returncode == 2
    assert "already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--max-batch", "--queue", "--max-bytes", "--image-size"])
def test_limits_must_be_positive(path, option, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["serve.py", str(path), option, "0"])
    with pytest.raises(SystemExit):
        serve.main()
    assert "positive whole number" in capsys.readouterr().err


def test_answers_are_sent_at_once():
    with serve.listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # What asyncio goes by.


def test_the_service_needs_no_keras(service):
    _, process = service
    loaded = {Path(file.path).name for file in process.memory_maps()}
    assert any("onnxruntime" in name for name in loaded)
    assert not any("tensorflow" in name or "torch" in name for name in loaded)


# The page, in a browser ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if None in programs.values():
        pytest.fail(
            "the page is tested in Chromium: apt-get install chromium chromium-driver. "
            f"Found: {programs}"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    # Containers run as root and have a small /dev/shm.
    for option in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs["chromedriver"]))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, client):
    browser.get(str(client.base_url))
    return browser


def drop(page: webdriver.Chrome, path: Path, place: str = "drop") -> None:
    """Drags a file of this machine over an element and drops it, as from a file manager: the
    browser finds the element under the pointer and sends the page its own, trusted events."""
    x, y = page.execute_script(
        "const box = document.getElementById(arguments[0]).getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]",
        place,
    )
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.execute_cdp_cmd(
            "Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data}
        )


def wait_for(page: webdriver.Chrome, condition) -> None:
    WebDriverWait(page, 30).until(lambda page: condition())


def shown(page: webdriver.Chrome) -> list[str]:
    """The lines of the answer, when it is there."""
    wait_for(page, page.find_element(By.ID, "result").is_displayed)
    return [line.text for line in page.find_elements(By.CSS_SELECTOR, "#predictions li")]


def expected_lines(client, body: bytes) -> list[str]:
    answer = predictions(client.post("/predict?top=5", content=body))
    return [f"{100 * probability:.1f} % {label}" for label, probability in answer.items()]


def natural_width(page: webdriver.Chrome, image: str) -> int:
    script = "return document.getElementById(arguments[0]).naturalWidth"
    wait_for(page, lambda: page.execute_script(script, image))
    return page.execute_script(script, image)


@pytest.mark.parametrize("place", ["drop", "status"])
def test_an_image_that_is_dropped_on_the_page_is_answered(page, client, tmp_path, place):
    file = tmp_path / "cat.jpg"
    picture().save(file)
    page.execute_script("addEventListener('drop', (event) => window.trusted = event.isTrusted)")
    drop(page, file, place)
    assert shown(page) == expected_lines(client, file.read_bytes())
    assert page.execute_script("return window.trusted") is True
    assert page.find_element(By.ID, "status").text.startswith("cat.jpg: ")
    assert natural_width(page, "image") == 160
    assert natural_width(page, "overlay") == SIZE


def test_an_image_that_is_chosen_is_answered_and_then_the_same_again(page, client, tmp_path):
    file = tmp_path / "cup.png"
    picture("coffee").save(file)
    for _ in range(2):
        page.execute_script("document.getElementById('predictions').replaceChildren()")
        page.find_element(By.ID, "file").send_keys(str(file))
        wait_for(page, lambda: page.find_elements(By.CSS_SELECTOR, "#predictions li"))
        assert shown(page) == expected_lines(client, file.read_bytes())


def test_the_overlay_on_the_page_is_the_heat_map_over_the_crop(page, path, tmp_path):
    file = tmp_path / "cat.png"
    picture().save(file)
    drop(page, file)
    shown(page)
    address = page.find_element(By.ID, "overlay").get_attribute("src")
    with urllib.request.urlopen(address) as answer:
        seen = np.asarray(Image.open(io.BytesIO(answer.read())), "float32")
    classifier = serve.Classifier(path)
    crop = classifier.crop(picture())
    [(probabilities, features)] = classifier.answer([classifier.values(crop)], True)
    heat = classifier.heat(features, int(probabilities.argmax()))
    heat = np.asarray(Image.fromarray(heat).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    added = (2 * seen - np.asarray(crop, "float32")).sum(-1)  # The colours of the heat.
    assert np.corrcoef(added.ravel(), heat.ravel())[0, 1] > 0.95


def test_the_page_says_why_a_file_was_refused(page, tmp_path):
    file = tmp_path / "half.jpg"
    file.write_bytes(encoded(picture(), "JPEG")[:2000])
    drop(page, file)
    status = page.find_element(By.ID, "status")
    wait_for(page, lambda: "error" in status.get_attribute("class"))
    assert "damaged" in status.text
    assert not page.find_element(By.ID, "result").is_displayed()


def test_labels_are_shown_as_text_not_as_markup(page, tmp_path):
    page.execute_script(
        "show(new File([], 'a.png'), {overlay: null, predictions: "
        "[{label: arguments[0], probability: 1}]})",
        LABELS[-1],
    )
    assert shown(page) == [f"100.0 % {LABELS[-1]}"]
    assert not page.find_element(By.ID, "explanation").is_displayed()


def test_a_value_is_shown_as_a_number(page):
    page.execute_script(
        "show(new File([], 'a.png'), {overlay: null, predictions: "
        "[{label: 'weight in g', value: -12.3456789}]})"
    )
    assert shown(page) == ["weight in g: -12.3457"]
    assert page.find_element(By.ID, "status").text == "a.png: weight in g: -12.3457"
    assert page.find_elements(By.TAG_NAME, "meter") == []


def test_the_page_loads_nothing_from_elsewhere(page, client):
    entries = page.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert all(urllib.parse.urlsplit(entry).netloc == client.base_url.netloc for entry in entries)
    blocked = page.execute_async_script(
        "const done = arguments[0], image = new Image();"
        "addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));"
        "image.onload = () => done('loaded');"
        "image.src = 'http://localhost:1/elsewhere.png'"
    )
    assert blocked == "img-src"
