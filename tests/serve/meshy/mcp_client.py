"""Drives an MCP server by JSON-RPC over its standard input and output."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import count


class McpClient:
    """Calls the tools of a server that runs as `node FILE`.

    Args:
        script: of the server.
        folder: where it works.
        environment: what it is told beside what we were.
    """

    def __init__(self, script, folder, **environment):
        self._process = subprocess.Popen(
            ["node", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **environment},
            text=True,
        )
        self._numbers = count(1)
        who = {"name": "maquette", "version": "1"}
        self._ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=who)
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool, **arguments):
        """What a tool returns: its structured content. Fails where the tool says that it failed."""
        result = self._ask("tools/call", name=tool, arguments=arguments)
        assert not result.get("isError"), result["content"][0]["text"]
        return result["structuredContent"]

    def refused(self, tool, **arguments):
        """The words with which a tool fails."""
        result = self._ask("tools/call", name=tool, arguments=arguments)
        assert result.get("isError"), result
        return result["content"][0]["text"]

    def close(self):
        """Ends the server."""
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait(10)

    def _ask(self, method, **parameters):
        number = next(self._numbers)
        self._say({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
        raise AssertionError(f"the MCP server ended with {self._process.wait()}")

    def _say(self, message):
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
