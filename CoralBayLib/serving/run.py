"""Starts and ends a server."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from CoralBayLib.core.errors import EncoderError, Remedy, ServerError, WeightsError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.requirements import SERVER as _PACKAGES
from CoralBayLib.remote.encoder import describe_encoder

from .settings import ServerSettings

_MOST_REQUESTS = 2000
"""Requests that are answered at the same time; each client has one."""
_STOP_S = 2.0
_PATIENCE_S = 300.0
"""How long a process of Ray may take to start or to answer before it is replaced."""
_NAME = "coralbay"


def make_offer(
    settings: ServerSettings, version: str, names: Sequence[str] = (), left_out: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """What a server tells of itself; each encoder is loaded once for it.

    Args:
        settings: of the server.
        version: of CoralBay.
        names: of the encoders; by default all that have weights on this computer.
        left_out: called with the reason for each encoder that is not offered.

    Returns:
        Version, device, and a description of each encoder in each of its inference modes.

    Raises:
        EncoderError: there is no such encoder, or no encoder has weights here.
        WeightsError: one of the named encoders has no weights here.
    """
    from CoralBayLib.core.devices import describe
    from CoralBayLib.encoders import encoder_card, encoder_names, load_encoder, load_encoder_file

    if settings.encoder_file:
        load_encoder_file(settings.encoder_file)
    found, device = [], ""
    for name in names or encoder_names():
        for setting in [each.name for each in encoder_card(name).settings] or [""]:
            try:
                encoder = load_encoder(name, settings.weights, settings.device, setting=setting or None)
            except (WeightsError, EncoderError) as error:
                if names:
                    raise
                if left_out is not None:
                    missing = error.remedy is Remedy.GET_WEIGHTS
                    left_out(f"{name} is not offered: {'its weights are not on this computer.' if missing else error}")
                break
            found.append(describe_encoder(encoder, setting))
            device = device or describe(encoder.device)
    if not found:
        raise EncoderError("No encoder has weights on this computer.", remedy=Remedy.GET_WEIGHTS)
    return {"coralbay": version, "device": device, "encoders": found}


@contextlib.contextmanager
def running(settings: ServerSettings, offer: dict[str, Any]) -> Iterator[None]:
    """Run a server while the block runs.

    Args:
        settings: how it is run.
        offer: from `make_offer`.

    Raises:
        ServerError: Ray is missing, or the server could not be started.
    """
    for name, value in _environment(settings).items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import serve
        from ray.serve.config import HTTPOptions
        from ray.serve.schema import LoggingConfig
    except ImportError as error:
        raise ServerError(f"A server needs Ray Serve ({error}).", remedy=Remedy.INSTALL_PACKAGE, package=_PACKAGES) from error
    from .replica import Replica

    settings.cache.mkdir(parents=True, exist_ok=True)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = LoggingConfig(enable_access_log=False)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _start_ray(settings)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # which Ray has replaced by its own
        resources = _resources(settings, ray.cluster_resources())
        listening: dict[str, Any] = {"host": settings.host, "port": settings.port}
        if settings.certificate:
            listening |= {"ssl_certfile": str(settings.certificate), "ssl_keyfile": str(settings.private_key)}
        serve.start(http_options=HTTPOptions(**listening), logging_config=quiet)
        common: dict[str, Any] = {
            "logging_config": quiet,
            "graceful_shutdown_timeout_s": _STOP_S,
            "health_check_timeout_s": _PATIENCE_S,
        }
        if settings.most_replicas > settings.replicas:
            number: dict[str, Any] = {
                "autoscaling_config": {
                    "min_replicas": settings.replicas,
                    "max_replicas": settings.most_replicas,
                    "target_ongoing_requests": 1,
                }
            }
        else:
            number = {"num_replicas": settings.replicas}
        deployment: Any = serve.deployment
        embedding = deployment(Replica).options(max_ongoing_requests=1, ray_actor_options=resources, **number, **common)
        ingress = deployment(serve.ingress(_app_builder(settings, offer))()).options(
            name="Ingress",
            num_replicas=1,
            max_ongoing_requests=_MOST_REQUESTS,
            ray_actor_options={"num_cpus": 0},
            **common,
        )
        serve.run(ingress.bind(embedding.bind(settings)), name=_NAME, route_prefix="/")
    except Exception as error:  # Ray raises errors of any kind
        _stop()
        raise ServerError(f"The server could not be started: {error_message(error)}.") from error
    try:
        yield
    finally:
        _stop()


def wait() -> None:
    """Wait until the process is told to end."""
    threading.Event().wait()


def _start_ray(settings: ServerSettings) -> None:
    """Connect to the cluster, or start Ray on this computer."""
    import ray

    if settings.ray:
        ray.init(address=settings.ray, log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, settings.most_replicas),
        object_store_memory=settings.object_store_bytes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def _app_builder(settings: ServerSettings, offer: dict[str, Any]) -> Callable[[], Any]:
    """A function that makes the application in the process that answers the clients."""

    def build() -> Any:
        from ray import serve

        from .app import Api

        replicas = serve.get_deployment_handle("Replica", _NAME)

        async def compute(request: dict[str, Any], voxels: str) -> AsyncIterator[dict[str, Any]]:
            events: Any = replicas.options(stream=True).embed.remote(request, voxels)
            try:
                async for event in events:
                    yield event
            finally:
                events.cancel()

        return Api(settings, offer, compute).app()

    return build


def _environment(settings: ServerSettings) -> dict[str, str]:
    """Variables for Ray.

    It does not report its use to its developers, is patient on a busy computer, does not give way to other programs, and
    accepts nobody else's work.
    """
    patience = str(int(_PATIENCE_S))
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": f"{patience}000",
        "RAY_worker_register_timeout_seconds": patience,
        "RAY_worker_niceness": "0",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": patience,
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": patience,
    }
    if not settings.ray:
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return environment


def _resources(settings: ServerSettings, cluster: dict[str, float]) -> dict[str, float]:
    """What each replica takes: a GPU where there are any, and its share of the processors."""
    share = max(1, int(cluster.get("CPU", 1)) // settings.most_replicas)
    gpus = {"num_gpus": 1.0} if settings.device != "cpu" and cluster.get("GPU", 0) else {}
    return {"num_cpus": float(share), **gpus}


def _stop() -> None:
    import ray
    from ray import serve

    with contextlib.suppress(Exception):
        serve.shutdown()
    with contextlib.suppress(Exception):
        ray.shutdown()
