//! Other users of the database, who mean no harm and do some.

use sqlx::{Connection as _, PgConnection};

use crate::cluster::{Postgres, postgres::MAX_CONNECTIONS, postgres::SERVICE_ROLE};

/// Somebody who holds every connection that there is for the service.
pub struct Crowding(Vec<PgConnection>);

impl Crowding {
    pub async fn begin(database: &Postgres) -> Result<Self, String> {
        let mut taken = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            match database.connect_as(SERVICE_ROLE).await {
                Ok(connection) => taken.push(connection),
                // the last of them is taken
                Err(sqlx::Error::Database(_)) => return Ok(Self(taken)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Self(taken))
    }

    pub async fn end(self) {
        for connection in self.0 {
            // it may be gone already
            drop(connection.close().await);
        }
    }
}

/// Two who went to lunch in the middle of a transaction: one holds rows, the other an old snapshot.
pub struct RowHolder([PgConnection; 2]);

impl RowHolder {
    /// Locks half of the rows.
    pub async fn begin(database: &Postgres) -> Result<Self, String> {
        let taken = async {
            let (mut rows, mut snapshot) = (database.connect().await?, database.connect().await?);
            sqlx::query("begin isolation level repeatable read").execute(&mut snapshot).await?;
            sqlx::query("select count(*) from rollcall.log_head").execute(&mut snapshot).await?;
            sqlx::query("begin").execute(&mut rows).await?;
            for statement in [
                "select count(*) from (select id from rollcall.instances where hashtext(id::text) % 2 = 0 \
                 order by id for update skip locked) held",
                "select count(*) from (select id from rollcall.config_entries where service not like 'probe%' \
                 and hashtext(id::text) % 2 = 0 order by id for update skip locked) held",
            ] {
                sqlx::query(statement).execute(&mut rows).await?;
            }
            Ok::<_, sqlx::Error>([rows, snapshot])
        };
        taken.await.map(Self).map_err(|error| error.to_string())
    }

    pub async fn end(self) -> Result<(), String> {
        for mut connection in self.0 {
            sqlx::query("rollback").execute(&mut connection).await.map_err(|error| error.to_string())?;
            connection.close().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Ends every session of the service on the server.
pub async fn terminate_backends(database: &Postgres) -> Result<(), String> {
    let ended = async {
        let mut connection = database.connect_to_maintain().await?;
        sqlx::query("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1")
            .bind(SERVICE_ROLE)
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    ended.await.map_err(|error: sqlx::Error| error.to_string())
}
