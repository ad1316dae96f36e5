import os
from contextlib import asynccontextmanager

from fastapi import FastAPI

from xfast import Feed
from xfast.actions import PROTO
from xfast.events import Engagement, NetworkEvent


@asynccontextmanager
async def lifespan(app: FastAPI):
    path = os.environ.get("FEED")  # a feed.toml; the demo network without
    async with await (Feed.open_async(path) if path else Feed.demo_async()) as app.state.feed:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/users/{user_id}/feed")
async def for_you(user_id: int, limit: int = 35):
    return (await app.state.feed.for_you_async(user_id, limit)).to_dict()


@app.post("/users/{user_id}/likes/{post_id}")
async def like(user_id: int, post_id: int):
    liked = Engagement(user_id, post_id, PROTO.column("favorite"))
    return (await app.state.feed.ingest_async([NetworkEvent(liked, app.state.feed.now_ms)])).changed
