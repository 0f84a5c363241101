"""Serve an exported model over HTTP: images go in, the likeliest classes and a Grad-CAM come out.

    pip install "keras-resnets[serve]"
    python examples/serve.py model.onnx           # What keras_resnets.export wrote.
    open http://127.0.0.1:8000                    # A page to drop images on.
    curl --data-binary @cat.jpg "http://127.0.0.1:8000/predict?top=3"
    curl http://127.0.0.1:8000/health

The service needs neither Keras nor its backends: ONNX Runtime computes, PIL decodes and resizes,
and labels, sizes, mean and standard deviation are in the file.

**Batches.** Images that arrive while the model computes wait and are computed together, at most
`--max-batch` of them; an idle service waits `--max-wait-ms` for company.

**Grad-CAM.** A network that ends in global average pooling and one dense layer needs no gradients
for it: the logit of class c is the mean over places of `w_c . features`, so its gradient at every
place is `w_c` up to a factor, and the map is `relu(w_c . features)`. Both are in the ONNX graph:
the service makes the last feature map a second output and reads the weights. For a graph that ends
otherwise (`/health` says so) there is no map; `keras_resnets.grad_cam` explains the Keras model.

**Memory** is bounded whatever comes: a few uploads of `--max-bytes` are held at once (others wait
in their sockets), two images of `--max-pixels` are decoded at once, and `--queue` requests are in
hand; one more is answered 503.

**Images** are read as `Preprocessor.load` reads them: of an animation the first picture counts,
orientation tags are ignored, transparency is dropped, and 16 bits are scaled to 8. Their size and
the rest of their preparation are in the file.

**Answers** are probabilities where the outputs are logits of two or more classes, or have been
through a softmax or a sigmoid (then each class has its own); otherwise, as from a single output
without an activation, they are values: numbers as they come. Of a model of several labels an image,
whose file says so, all labels that reach its threshold are named, which may be none; `top=N` names
the N likeliest of any model.

Answers to what cannot be classified say what to do: 400 no image, 408 an upload that stalls, 413
too large, 415 not an image that is read here, 422 a damaged one, 503 too many at once. There is no
encryption, authentication or limit for each client: put a reverse proxy in front for those, and to
collect slow uploads.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import logging
import math
import socket
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from PIL import Image, ImageOps, UnidentifiedImageError
from starlette.requests import ClientDisconnect

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # PIL has riskier ones: EPS runs a program.
UPLOADS = 16  # Bodies that are held at once.
DECODERS = 2  # Images that are decoded at once.
UPLOAD_SECONDS = 10
# The page may load nothing but itself, and talk to this service alone.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'"
}


# The model ----------------------------------------------------------------------------------------


class Classifier:
    """An exported ONNX model, and what its file says about it.

    Args:
        path: of a file that `keras_resnets.export` wrote, for one RGB or greyscale image input.
        image_size: side of the square that images are brought to, in pixels, for a model that
            takes any size; default: the size in the file, which the weights were evaluated at.

    Raises:
        ValueError: if the file is no ONNX model of this kind, does not say how images are
            prepared, or has a fixed other size.
    """

    def __init__(self, path: str | Path, image_size: int | None = None) -> None:
        try:
            model = onnx.load(path)
        except FileNotFoundError:
            raise
        except Exception as error:  # protobuf's own, which has no public name.
            raise ValueError(f"MODEL must be an ONNX file. Received: {str(path)!r}") from error
        self.metadata = _metadata(model, path)
        self.size = _size(self.metadata, image_size)
        self.grey = _channels(model.graph) == 1

        head = _head(model.graph)
        for name in head or ():
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0]
        output = self._session.get_outputs()[0]
        if len(output.shape) != 2:
            raise ValueError(
                f"MODEL must return a number for each class. Received: outputs of {output.shape}"
            )
        self._output = output.name
        self.threshold: float | None = self.metadata.get("threshold")
        self.answers, self._activate = _answers(
            self.metadata["activation"], output.shape[1], self.threshold is not None
        )
        types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
        self._dtype = types[self._input.type]
        self.fixed_batch = self._input.shape[0] if isinstance(self._input.shape[0], int) else None

        self._features = self._weights = None
        if head is not None:
            self._features, weights = head
            blank = Image.new("L" if self.grey else "RGB", self.size[::-1])
            # A quantized layer's lack their scale, which a heat map does not have either; their
            # zero point is 0, because weights are quantized symmetrically.
            self._weights = self._run([self.values(blank)], [weights])[0].astype("float32")

    @property
    def has_grad_cam(self) -> bool:
        """Whether the graph ends so that `heat` can be computed."""
        return self._weights is not None

    def crop(self, image: Image.Image) -> Image.Image:
        """The part of an image that the model sees, as `keras_resnets.Preprocessor` has it."""
        height, width = self.size
        resized = _resized(image.size, self.size, self.metadata["crop_pct"])
        kernel = Image.Resampling[self.metadata["interpolation"].upper()]
        image = image.resize(resized, kernel)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def values(self, crop: Image.Image) -> np.ndarray:
        """What the model takes for a crop, `(height, width, channels)`."""
        pixels = np.asarray(crop).reshape(*self.size, -1)
        if self.metadata["include_preprocessing"]:
            return pixels.astype(self._dtype)
        mean, std = (np.float32(self.metadata[key][: pixels.shape[-1]]) for key in ("mean", "std"))
        return ((pixels / np.float32(255) - mean) / std).astype(self._dtype)

    def answer(
        self, images: list[np.ndarray], with_features: bool
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Probabilities or values `(classes,)` and, if wanted, the feature map `(channels, rows,
        columns)` of each image."""
        outputs = self._run(images, [self._output, *([self._features] if with_features else ())])
        answers = self._activate(outputs[0].astype("float32"))
        maps = outputs[1] if with_features else [None] * len(images)
        return list(zip(answers, maps, strict=False))[: len(images)]

    def heat(self, features: np.ndarray, class_index: int) -> np.ndarray:
        """The Grad-CAM `(rows, columns)` of a class, from 0 to 1; see the top of this file."""
        weights = self._weights[:, class_index]
        heat = np.maximum(np.tensordot(weights, features.astype("float32"), axes=1), 0)
        return heat / (heat.max() or 1)

    def best(self, answers: np.ndarray, top: int | None = None) -> list[int]:
        """The classes to name, likeliest first: `top` of them; else all that reach the threshold of
        a model of several labels an image, and 5 of others."""
        order = np.argsort(-answers, kind="stable").tolist()
        if top is None and self.threshold is not None:
            return [index for index in order if answers[index] >= self.threshold]
        return order[: top or 5]

    def label(self, index: int) -> str:
        labels = self.metadata.get("labels")
        if labels:
            return labels[index]
        return f"class {index}" if self.answers == "probabilities" else f"output {index}"

    def _run(self, images: list[np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        batch = np.stack(images)
        if self.fixed_batch:
            batch = np.resize(batch, (self.fixed_batch, *batch.shape[1:]))  # Repeats to fill it up.
        return self._session.run(outputs, {self._input.name: batch})


def _metadata(model: onnx.ModelProto, path: str | Path) -> dict[str, Any]:
    """What `keras_resnets.export` noted in the file."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if not {"dynamic", "include_preprocessing", "activation"} <= set(texts):
        raise ValueError(
            "MODEL must be written by keras_resnets.export, which notes how images are prepared. "
            f"Received: {str(path)!r}"
        )
    known = {key: json.loads(text) for key, text in texts.items()}
    needed = ["input_size", "crop_pct", "interpolation"]
    needed += [] if known["include_preprocessing"] else ["mean", "std"]
    missing = [key for key in needed if key not in known]
    if missing:
        raise ValueError(
            f"MODEL must say how images are prepared; this file lacks {', '.join(missing)}: export "
            f"the model anew with `preprocessing`, which states them. Received: {str(path)!r}"
        )
    return known


def _size(metadata: dict[str, Any], image_size: int | None) -> tuple[int, int]:
    """Height and width of the images that the model gets."""
    height, width = metadata["input_size"][-2:]
    if image_size is None or image_size == height == width:
        return height, width
    if not metadata["dynamic"]:
        raise ValueError(
            f"--image-size must be left out for a model of one size, {height}x{width}. "
            f"Received: {image_size}"
        )
    return image_size, image_size


def _channels(graph: onnx.GraphProto) -> int:
    """Channels of the images that the model gets."""
    shape = [side.dim_value for side in graph.input[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(f"MODEL must take RGB or grey images. Received: images of {shape}")
    return shape[-1]


def _answers(
    activation: str, classes: Any, several: bool
) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """What is answered, "probabilities" or "values", and what makes that of the outputs."""
    if activation == "linear" and several:  # Logits of several labels an image.
        return "probabilities", lambda outputs: np.exp(-np.logaddexp(0, -outputs))
    if activation == "linear" and classes != 1:  # Logits.
        return "probabilities", _softmax
    if activation == "log_softmax":
        return "probabilities", np.exp
    is_probability = activation in ("softmax", "sigmoid", "hard_sigmoid")
    return "probabilities" if is_probability else "values", lambda outputs: outputs


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def _head(graph: onnx.GraphProto) -> tuple[str, str] | None:
    """Names of the last feature map (channels first) and of the classifier's weights
    (channels, classes); None if the graph does not end in global average pooling and one dense
    layer."""
    producers = {name: node for node in graph.node for name in node.output}
    same = {"Cast", "DequantizeLinear", "DynamicQuantizeLinear", "Flatten", "Identity",
            "QuantizeLinear", "Reshape", "Squeeze"}  # fmt: skip

    def back(name: str, passed: set[str], wanted: set[str]) -> onnx.NodeProto | None:
        node = producers.get(name)
        while node is not None and node.op_type in passed:
            node = producers.get(node.input[0])
        return node if node is not None and node.op_type in wanted else None

    # Behind the layer: its bias, a quantized one's scale, and the activation.
    behind = same | {"Add", "Mul", "Sigmoid", "Softmax"}
    dense = back(graph.output[0].name, behind, {"MatMul", "MatMulInteger"})
    pool = dense and back(dense.input[0], same, {"GlobalAveragePool"})
    return pool and (pool.input[0], dense.input[1])


def _resized(image: tuple[int, int], size: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Width and height of an image (width, height) resized to cover `size` (height, width)."""
    width, height = image
    rows, columns = (math.floor(side / crop_pct) for side in size)
    if rows == columns:
        shorter = min(image)
        return rows * width // shorter, rows * height // shorter
    ratio = min(height / rows, width / columns)
    return round(width / ratio), round(height / ratio)


# Images -------------------------------------------------------------------------------------------


def set_up_pil(max_pixels: int) -> None:
    """Makes PIL raise for every image that says it is larger, before it is decoded, and keep quiet
    about damaged ones: Python remembers every warning that it shows."""
    warnings.filterwarnings("ignore", module="PIL")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    Image.MAX_IMAGE_PIXELS = max_pixels


def read_crop(body: bytes, classifier: Classifier) -> tuple[Image.Image, np.ndarray]:
    """Decodes an upload: what the model sees of it, as a picture and as the model takes it.

    Raises:
        HTTPException: 413, 415 or 422, if there is no such thing.
    """
    too_large = HTTPException(
        413, f"The image must have at most {Image.MAX_IMAGE_PIXELS:,} pixels: send a smaller one."
    )
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise HTTPException(415, f"Send the bytes of an image: {', '.join(FORMATS)}.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise too_large from error
    except Exception as error:
        raise HTTPException(422, f"The image is damaged ({error}): send it anew.") from error
    if math.prod(_resized(image.size, classifier.size, classifier.metadata["crop_pct"])) > (
        Image.MAX_IMAGE_PIXELS
    ):
        raise HTTPException(413, "The image is too narrow: cut it to about the part that matters.")
    # PIL reads 16 bits of a PNG as 32 in some versions.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if image.mode in ("I", "F") and not deep:
        raise HTTPException(415, "The image must have 8 or 16 bits a channel: convert it to 8.")
    try:
        image.load()
        if deep:  # PIL would clip it to white.
            levels = (np.asarray(image).astype("int64") + 128) // 257  # 65535 becomes 255.
            image = Image.fromarray(levels.astype("uint8"))
        image.info.pop("transparency", None)  # PIL warns of it, and RGB has none.
        mode = "L" if classifier.grey else "RGB"
        crop = classifier.crop(image if image.mode == mode else image.convert(mode))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise too_large from error
    except Exception as error:  # Each format's decoder has errors of its own, of every class.
        raise HTTPException(
            422, f"The image is damaged or incomplete ({error}): send it anew."
        ) from error
    return crop, classifier.values(crop)


def overlay(crop: Image.Image, heat: np.ndarray) -> str:
    """A crop under its heat map, as the address of a PNG picture."""
    grey = Image.fromarray(np.uint8(heat * 255)).resize(crop.size, Image.Resampling.BILINEAR)
    colours = ImageOps.colorize(grey, black="black", mid="#e53c32", white="#fcffdc")
    file = io.BytesIO()
    Image.blend(crop.convert("RGB"), colours, 0.5).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request, given up as soon as it is too large.

    Raises:
        HTTPException: 400, 408, 413 or 415.
    """
    too_large = HTTPException(413, f"The image must have at most {max_bytes:,} bytes.")
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "The body must be the image itself, as `curl --data-binary @FILE`")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took more than {UPLOAD_SECONDS} seconds.") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The upload was broken off.") from error
    if not body:
        raise HTTPException(400, "The body is empty: send the bytes of an image.")
    return bytes(body)


# The service --------------------------------------------------------------------------------------


class Batcher:
    """Collects what arrives one by one and computes it together, in a thread.

    Args:
        run: what computes a list of items: `(items) -> results`.
        max_batch: most items at once.
        max_wait: seconds that a first item waits for others.
    """

    def __init__(self, run: Callable[[list], list], max_batch: int, max_wait: float) -> None:
        self._run, self._max_batch, self._max_wait = run, max_batch, max_wait
        self._queue: asyncio.Queue[tuple[Any, asyncio.Future]] = asyncio.Queue()
        self.items = self.batches = 0

    async def submit(self, item: Any) -> Any:
        """The result of one item, when it is there."""
        future = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((item, future))
        return await future

    async def work(self) -> None:
        """Computes batches until it is cancelled."""
        while True:
            entries = await self._collected()
            try:
                results = await asyncio.to_thread(self._run, [item for item, _ in entries])
                for (_, future), result in zip(entries, results, strict=True):
                    if not future.cancelled():
                        future.set_result(result)
            except Exception as error:  # The service outlives it; those who asked hear of it.
                for _, future in entries:
                    if not future.done():
                        future.set_exception(error)
            self.items += len(entries)
            self.batches += 1

    async def _collected(self) -> list[tuple[Any, asyncio.Future]]:
        entries = [await self._queue.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._max_wait):
                while len(entries) < self._max_batch:
                    entries.append(await self._queue.get())
        return entries


def create_app(
    classifier: Classifier, *, max_batch: int, max_wait: float, max_bytes: int, queue: int
) -> FastAPI:
    """The service as an ASGI application; see the top of this file."""

    def run(items: list[tuple[np.ndarray, bool]]) -> list:
        with_features = any(wants for _, wants in items)
        return classifier.answer([image for image, _ in items], with_features)

    batcher = Batcher(run, min(max_batch, classifier.fixed_batch or max_batch), max_wait)
    uploads = asyncio.Semaphore(UPLOADS)
    decoders = ThreadPoolExecutor(DECODERS)
    page = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    in_hand = 0

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batcher.work())
        yield
        worker.cancel()
        decoders.shutdown()

    # No pages of documentation: theirs load scripts from elsewhere.
    app = FastAPI(title="keras_resnets", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.get("/", response_class=HTMLResponse)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "classes": len(classifier.metadata.get("labels") or ()) or None,
            "image_size": classifier.size,
            "answers": classifier.answers,
            "threshold": classifier.threshold,
            "grad_cam": classifier.has_grad_cam,
            "in_hand": in_hand,
            "images": batcher.items,
            "batches": batcher.batches,
        }

    @app.post("/predict")
    async def predict(
        request: Request,
        top: Annotated[int | None, Query(ge=1)] = None,
        grad_cam: bool = False,
    ) -> dict[str, Any]:
        nonlocal in_hand
        if in_hand >= queue:
            raise HTTPException(503, "Too many requests at once.", headers={"Retry-After": "1"})
        in_hand += 1
        try:
            return await answer(request, top, grad_cam and classifier.has_grad_cam)
        finally:
            in_hand -= 1

    async def answer(request: Request, top: int | None, grad_cam: bool) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with uploads:
            body = await read_body(request, max_bytes)
            crop, values = await loop.run_in_executor(decoders, read_crop, body, classifier)
        answers, features = await batcher.submit((values, grad_cam))
        kind = {"probabilities": "probability", "values": "value"}[classifier.answers]
        picture = None
        if grad_cam:
            heat = classifier.heat(features, int(np.argmax(answers)))
            picture = await loop.run_in_executor(decoders, overlay, crop, heat)
        return {
            "predictions": [
                {"index": i, "label": classifier.label(i), kind: float(answers[i])}
                for i in classifier.best(answers, top)
            ],
            "threshold": classifier.threshold,
            "overlay": picture,
        }

    return app


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # asyncio sends answers at once where the socket says that its protocol is TCP; uvicorn's own
    # does not, and a client that keeps its connection would wait 40 ms for each.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", help="what keras_resnets.export wrote")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    add("--port", type=int, default=8000, help="%(default)s; 0 takes a free one and prints it")
    add("--image-size", type=_count, help="for a model of any size: side in pixels")
    add("--max-batch", type=_count, default=16, help="most images computed at once (%(default)s)")
    add("--max-wait-ms", type=_count, default=5, help="wait for company (%(default)s)")
    add("--max-bytes", type=_count, default=10_000_000, help="largest upload (%(default)s)")
    add("--max-pixels", type=_count, default=25_000_000, help="largest image (%(default)s)")
    add("--queue", type=_count, default=256, help="most requests in hand (%(default)s)")
    arguments = parser.parse_args()

    set_up_pil(arguments.max_pixels)
    try:
        classifier = Classifier(arguments.model, arguments.image_size)
        listener = listen(arguments.host, arguments.port)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    app = create_app(
        classifier,
        max_batch=arguments.max_batch,
        max_wait=arguments.max_wait_ms / 1000,
        max_bytes=arguments.max_bytes,
        queue=arguments.queue,
    )
    host, port = listener.getsockname()[:2]
    print(f"serving {arguments.model} at http://{host}:{port}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


def _count(text: str) -> int:
    """A positive int from the command line."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive whole number. Received: {text!r}")
    return int(text)


if __name__ == "__main__":
    main()
