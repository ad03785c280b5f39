"""`coralbay serve`: embed scans for other computers."""

from __future__ import annotations

import argparse
from typing import Any

from CoralBayLib import __version__
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        parents=[common.output],
        help="embed scans for other computers, until the command is ended",
        description="Embeds scans for other computers, until the command is ended (Ctrl+C). Needs the extra `serve`.",
    )
    parser.set_defaults(run=run)
    listening = parser.add_argument_group("listening")
    listening.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this computer only)")
    listening.add_argument("--port", type=int, default=8765, help="port to listen on (default 8765)")
    listening.add_argument(
        "--token-file",
        metavar="FILE",
        help="file with the token that clients must send (default: the environment variable CORALBAY_SERVER_TOKEN); required "
        "with another --host",
    )
    listening.add_argument("--certificate", metavar="FILE", help="certificate with its chain (PEM), for https")
    listening.add_argument("--private-key", metavar="FILE", help="private key of the certificate (PEM)")
    work = parser.add_argument_group("embedding")
    work.add_argument(
        "--encoder", action="append", metavar="NAME", help="encoder to offer; may be repeated (default: all that have weights)"
    )
    work.add_argument("--encoder-file", metavar="FILE", help="Python file that registers encoders; the file is run")
    work.add_argument("--weights", metavar="FILE", help="local weights file, with one --encoder")
    work.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto, cpu or cuda (default auto)")
    work.add_argument("--replicas", type=int, default=1, metavar="N", help="processes that embed, one for each GPU (default 1)")
    work.add_argument("--most-replicas", type=int, metavar="N", help="start further ones while scans wait, up to this number")
    work.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster (default: start Ray on this computer)")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--queue", type=int, default=32, metavar="N", help="maximum number of jobs at a time (default 32)")
    limits.add_argument(
        "--most-voxels", type=int, default=1024, metavar="MILLIONS", help="largest scan, in millions of voxels (default 1024)"
    )
    limits.add_argument(
        "--keep-hours", type=float, default=24.0, metavar="H", help="delete features not used for so many hours (default 24)"
    )
    limits.add_argument("--cache", metavar="FOLDER", help="folder for features (default: `served` in the cache folder)")
    limits.add_argument("--cache-gb", type=float, default=20.0, metavar="GB", help="maximum size of that folder (default 20)")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay serve`."""
    from CoralBayLib.core.errors import ServerError
    from CoralBayLib.core.paths import cache_dir, expand
    from CoralBayLib.remote.token import others_can_read, read_token
    from CoralBayLib.serving.run import make_offer, running, wait
    from CoralBayLib.serving.settings import ServerSettings, digest_of

    if args.weights and len(args.encoder or ()) != 1:
        raise ServerError("A weights file is of one encoder; name that one with --encoder.")
    token = read_token(args.token_file)
    if args.token_file and others_can_read(args.token_file):
        console.say(f"Every user of this computer can read the token: chmod 600 {args.token_file}")
    settings = ServerSettings(
        cache=expand(args.cache) if args.cache else cache_dir() / "served",
        host=args.host,
        port=args.port,
        token_digest=None if token is None else digest_of(token),
        certificate=expand(args.certificate) if args.certificate else None,
        private_key=expand(args.private_key) if args.private_key else None,
        replicas=args.replicas,
        most_replicas=args.most_replicas or args.replicas,
        device=args.device,
        encoder_file=args.encoder_file,
        weights=args.weights,
        cache_bytes=int(args.cache_gb * 2**30),
        keep_s=args.keep_hours * 3600,
        queue=args.queue,
        most_voxels=args.most_voxels * 10**6,
        ray=args.ray,
    )
    console.say("Looking for weights of encoders, and checking them.")
    offer = make_offer(settings, __version__, args.encoder or (), console.say)
    console.say("Starting the server. This can take a minute.")
    with running(settings, offer):
        scheme = "https" if settings.certificate else "http"
        names = ", ".join(dict.fromkeys(each["name"] for each in offer["encoders"]))
        console.say(
            f"Listening on {scheme}://{settings.host}:{settings.port} with {names} on {offer['device']}. Ctrl+C ends it."
        )
        if not settings.is_private and not settings.certificate:
            console.say("Without a certificate, scans and the token can be read on the network. See docs/server.md.")
        wait()
    return {}
