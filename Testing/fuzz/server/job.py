"""A job of a server that waits for the voxels of a small scan."""

from __future__ import annotations

import time
from dataclasses import dataclass

import requests

from CoralBayLib.features.identity import store_key
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.remote.wire import QUEUED, RUNNING, JobRequest, versions, voxel_type

_PATIENCE_S = 300.0


@dataclass(frozen=True)
class OpenJob:
    """A job that has been begun.

    Attributes:
        url: of the server.
        id: of the job.
        request: what was asked for.
        volume: the scan, which has one part.
    """

    url: str
    id: str
    request: JobRequest
    volume: Volume

    @classmethod
    def begin(cls, url: str, volume: Volume) -> OpenJob:
        """Begin a job."""
        encoder = RemoteEmbedder(url).encoder()
        levels = [level.name for level in encoder.levels]
        request = JobRequest(
            versions=versions(),
            key=store_key(volume, encoder, levels),
            encoder=encoder.name,
            setting=encoder.setting,
            weights=encoder.weights_sha256,
            levels=levels,
            shape=list(volume.grid.shape),
            ijk_to_ras=volume.grid.ijk_to_ras.tolist(),
            dtype=voxel_type(volume.array),
        )
        assert request.parts == 1
        answer = requests.post(f"{url}/jobs", json=request.as_json(), timeout=60)
        assert answer.status_code == 201, answer.text
        return cls(url, answer.json()["job"], request, volume)

    def part(self) -> bytes:
        """Its only part."""
        return self.request.encode_part(self.volume, 0)

    def finish(self) -> str:
        """Send the part, and wait for the end; returns the state."""
        state = requests.put(f"{self.url}/jobs/{self.id}/parts/0", data=self.part(), timeout=60).json()
        end = time.monotonic() + _PATIENCE_S
        while state.get("state") in (QUEUED, RUNNING) and time.monotonic() < end:
            state = requests.get(f"{self.url}/jobs/{self.id}?seen={state.get('version', 0)}", timeout=60).json()
        return str(state.get("state"))
