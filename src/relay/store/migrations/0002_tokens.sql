-- Callers' tokens. The token itself is not here: only its SHA-256.

CREATE TABLE token (
    id          TEXT PRIMARY KEY,
    hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    label       TEXT NOT NULL,
    scope       TEXT NOT NULL CHECK (scope IN ('connection', 'all', 'admin')),
    connection  BLOB REFERENCES connection (id) ON DELETE CASCADE,
    created_at  INTEGER NOT NULL,
    CHECK ((scope = 'connection') = (connection IS NOT NULL))
) STRICT;

CREATE INDEX token_connection ON token (connection);
