//! Does a client library that we had no hand in get on with the server? The crate `ovsdb-client` reads schema and updates into types of
//! its own.

use jsonrpsee::core::client::{Subscription, SubscriptionClientT};
use ovsdb_client::rpc::{self, RpcClient};
use ovsdb_client::schema::{MonitorRequest, UpdateNotification};
use serde_json::{Value, json};
use server::Server;
use std::collections::HashMap;
use std::time::Duration;

mod server;

#[test]
fn the_crate_ovsdb_client_reads_the_schema_and_follows() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let client = rpc::connect_unix(server.socket()).await.expect("connects");
        assert_eq!(client.list_databases().await.expect("names"), ["Open_vSwitch", "_Server"]);
        let schema = client.get_schema("Open_vSwitch").await.expect("a schema");
        assert_eq!(schema.name, "Open_vSwitch");
        assert_eq!(schema.tables["Port"].indexes, Some(vec![vec!["name".to_owned()]]));
        assert_eq!(schema.tables["Bridge"].columns["name"].mutable, Some(false));
        assert_eq!(schema.tables["Open_vSwitch"].max_rows, Some(1));
        let mut updates: Subscription<UpdateNotification<Value>> =
            client.subscribe_to_method("update").await.expect("listens");
        let columns = Some(vec!["name".to_owned(), "tag".to_owned()]);
        let requests = HashMap::from([("Port".to_owned(), MonitorRequest { columns, ..Default::default() })]);
        let before = client.monitor("Open_vSwitch", None, requests).await.expect("monitors");
        assert!(before.values().all(HashMap::is_empty), "{before:?}");
        server.text("ovs-vsctl", &["--no-wait", "add-br", "br0", "--", "add-port", "br0", "eth1", "tag=7"]);
        let update = tokio::time::timeout(Duration::from_secs(10), updates.next()).await.expect("an update in time");
        let update = update.expect("the connection lives").expect("its own types fit");
        let new: Vec<&Value> = update.message["Port"].values().map(|row| &row["new"]).collect();
        assert!(new.contains(&&json!({"name": "eth1", "tag": 7})), "{new:?}");
        assert_eq!((new.len(), update.id), (2, None));
    });
}
