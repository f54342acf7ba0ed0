-- A store as the first version wrote it. Never changed: later versions must open it.
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL);
INSERT INTO schema_version VALUES (1, 1790000000.0);
CREATE TABLE users (user_id TEXT PRIMARY KEY, first_seen REAL NOT NULL, last_seen REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE events (event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, video_id TEXT NOT NULL, type TEXT NOT NULL, timestamp REAL NOT NULL, portion REAL, feed_id TEXT, received_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX events_of_user ON events (user_id, timestamp);
CREATE TABLE feeds (feed_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, again INTEGER NOT NULL, created_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE impressions (feed_id TEXT NOT NULL REFERENCES feeds, position INTEGER NOT NULL, user_id TEXT NOT NULL, video_id TEXT NOT NULL, source TEXT NOT NULL, score REAL NOT NULL, reason TEXT NOT NULL, grounds TEXT NOT NULL, created_at REAL NOT NULL, PRIMARY KEY (feed_id, position), UNIQUE (feed_id, video_id)) WITHOUT ROWID;
CREATE INDEX impressions_of_user ON impressions (user_id, video_id);
INSERT INTO users VALUES ('u1', 1790000001.0, 1790000009.0), ('u2', 1790000002.0, 1790000002.0);
INSERT INTO feeds VALUES ('f1', 'u1', 0, 1790000001.0);
INSERT INTO impressions VALUES ('f1', 0, 'u1', 'v1', 'model', 0.25, 'Why.', '[{"colour": "red"}, ["v7", "v9"]]', 1790000001.0), ('f1', 1, 'u1', 'v2', 'new', 0.5, 'New.', '[{}, []]', 1790000001.0);
INSERT INTO events VALUES ('e1', 'u1', 'v1', 'watch', 1790000003.0, 0.9, 'f1', 1790000004.0), ('e2', 'u1', 'v2', 'like', 1790000005.0, NULL, 'f1', 1790000006.0), ('e3', 'u2', 'v1', 'skip', 1790000007.0, NULL, NULL, 1790000008.0);
