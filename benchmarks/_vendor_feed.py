"""The vendor's own streamer as a process: ``_vendor_feed.py FEED_URL TOKEN MODE KEY...``; a line for each event.

Runs in an environment that has ``upstox-python-sdk`` and nothing of ours. Only the address is
patched, which the SDK has fixed in its code.
"""

import sys
import time

import upstox_client
import websocket


def main() -> None:
    url, token, mode, *keys = sys.argv[1:]
    original = websocket.WebSocketApp
    websocket.WebSocketApp = lambda _, **options: original(url, **options)
    configuration = upstox_client.Configuration()
    configuration.access_token = token
    streamer = upstox_client.MarketDataStreamerV3(upstox_client.ApiClient(configuration), keys, mode)

    def say(*words: object) -> None:
        print(*words, flush=True)

    streamer.on("open", lambda *_: say("open"))
    streamer.on("close", lambda *_: say("close"))
    streamer.on("message", lambda message: say("message", len(message.get("feeds", ()))))
    streamer.on("reconnecting", lambda *_: say("reconnecting"))
    streamer.on("autoReconnectStopped", lambda *_: say("stopped"))
    streamer.connect()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
