-- Connections and their invitations. Times are seconds since 1970. Keys and ids are raw bytes.

CREATE TABLE connection (
    id                 BLOB PRIMARY KEY CHECK (length(id) = 16),
    name               TEXT NOT NULL,
    local_name         TEXT NOT NULL,
    remote_name        TEXT NOT NULL,
    description        TEXT NOT NULL,
    project            TEXT,
    created_at         INTEGER NOT NULL,
    -- Filled together, by redeeming.
    accepted_at        INTEGER,
    agent_key          BLOB CHECK (length(agent_key) = 32),
    agent_software     TEXT,
    agent_project      TEXT,
    deactivated_here   INTEGER NOT NULL DEFAULT 0 CHECK (deactivated_here IN (0, 1)),
    deactivated_there  INTEGER NOT NULL DEFAULT 0 CHECK (deactivated_there IN (0, 1)),
    last_seen_at       INTEGER,
    removed_here_at    INTEGER,
    removed_there_at   INTEGER,
    CHECK ((accepted_at IS NULL) = (agent_key IS NULL)),
    CHECK ((accepted_at IS NULL) = (agent_software IS NULL))
) STRICT;

-- A tombstone's name may be given again.
CREATE UNIQUE INDEX connection_name ON connection (name) WHERE removed_here_at IS NULL;

CREATE TABLE invitation (
    id              INTEGER PRIMARY KEY,
    connection      BLOB NOT NULL REFERENCES connection (id) ON DELETE CASCADE,
    one_time_key    BLOB NOT NULL UNIQUE CHECK (length(one_time_key) = 32),
    issued_at       INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    redeemed_at     INTEGER,
    revoked_at      INTEGER,
    CHECK (redeemed_at IS NULL OR revoked_at IS NULL)
) STRICT;

CREATE INDEX invitation_connection ON invitation (connection, id);

-- At most one invitation of a connection can be redeemed, and at most one ever was.
CREATE UNIQUE INDEX invitation_open ON invitation (connection) WHERE revoked_at IS NULL;
