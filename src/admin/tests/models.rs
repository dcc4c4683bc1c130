use serde_json::{Value, json};

use super::Bench;

const FAMILY: &str = "\
models:
  base: {routes: [{backend: east, model: real}], parameters: {temperature: {default: 0.5}}}
  other: {routes: [{backend: west}], frontend: [/openai]}
  child: {extends: base, target_model: x}
  grandchild: {extends: child, enabled: false}
  sibling: {extends: base}
";

fn names(value: &Value) -> Vec<&str> {
    let names = value.as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap()).collect()
}

#[tokio::test]
async fn models_are_listed_in_the_order_of_the_file_and_shown_with_what_they_inherit() {
    let bench = Bench::with(FAMILY);
    let order = ["base", "other", "child", "grandchild", "sibling"];
    assert_eq!(bench.names().await, order);
    let child = bench.get("/admin/models/child").await;
    assert_eq!(child["model_name"], "child");
    assert_eq!(child["extends"], "base");
    assert_eq!(child["source"], "file");
    assert_eq!(child["config"]["routes"][0]["model"], "real");
    assert_eq!(
        child["own"],
        json!({"extends": "base", "target_model": "x"})
    );
    let other = bench.get("/admin/models/other").await;
    assert_eq!(other["frontend"], json!(["/openai"]));
    assert_eq!(
        bench.get("/admin/models/grandchild").await["enabled"],
        false
    );
    let unknown = bench.request("GET", "/admin/models/nobody");
    unknown.refused(404, "not_found").await;
}

#[tokio::test]
async fn the_family_of_a_model_is_told() {
    let bench = Bench::with(FAMILY);
    let tree = bench.get("/admin/models/tree").await;
    assert_eq!(names(&tree["roots"]), ["base", "other"]);
    let node = &tree["nodes"]["child"];
    assert_eq!(
        (&node["parent"], &node["editable"]),
        (&json!("base"), &json!(true))
    );
    assert_eq!(names(&node["children"]), ["grandchild"]);
    assert_eq!(
        node["config"],
        json!({"extends": "base", "target_model": "x"})
    );
    let ancestry = bench.get("/admin/models/grandchild/ancestry").await;
    assert_eq!(names(&ancestry["chain"]), ["grandchild", "child", "base"]);
    assert_eq!(ancestry["inheritance_depth"], 3);
    let dependents = bench.get("/admin/models/base/dependents").await;
    assert_eq!(names(&dependents["direct_children"]), ["child", "sibling"]);
    let all = names(&dependents["all_descendants"]);
    assert_eq!(all, ["child", "grandchild", "sibling"]);
    assert_eq!(dependents["descendant_count"], 3);
    for path in ["ancestry", "dependents"] {
        let unknown = bench.request("GET", &format!("/admin/models/nobody/{path}"));
        unknown.refused(404, "not_found").await;
    }
}

#[tokio::test]
async fn a_model_is_put_replaced_and_deleted() {
    let bench = Bench::with(FAMILY);
    let section = json!({"routes": [{"backend": "west", "model": "m", "weight": 2}]});
    let put = bench.put("/admin/models/new", &section).await;
    assert_eq!(
        (&put["replaced"], &put["protected"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(put["needs_restart"], json!([]));
    let shown = bench.get("/admin/models/new").await;
    assert_eq!(
        (&shown["source"], &shown["config"]),
        (&json!("api"), &section)
    );
    assert_eq!(bench.names().await.last().unwrap(), "new");
    let explained = bench.get("/admin/routes?model=new").await;
    assert_eq!(explained["routes"][0]["backend"], "west");

    // One of the file keeps its place and, deleted, does not come back.
    let section = json!({"name": "base", "routes": [{"backend": "west"}], "fallbacks": ["new"]});
    let put = bench.post("/admin/models", &section).await;
    assert_eq!(
        (&put["replaced"], &put["fallbacks"]),
        (&json!(true), &json!(["new"]))
    );
    assert_eq!(bench.names().await[0], "base");
    bench
        .request("DELETE", "/admin/models/base?cascade=yes")
        .done()
        .await;
    assert_eq!(bench.names().await, ["other", "new"]);
    bench.post("/admin/config/reload", &json!({})).await;
    assert_eq!(bench.names().await, ["other", "new"]);
}

#[tokio::test]
async fn what_others_extend_is_deleted_with_them_or_not_at_all() {
    let bench = Bench::with(FAMILY);
    let delete = bench.request("DELETE", "/admin/models/base");
    let refusal = delete.refused(409, "has_dependents").await;
    let all = ["child", "grandchild", "sibling"];
    assert_eq!(names(&refusal["dependents"]), all);
    assert!(refusal["hint"].as_str().unwrap().contains("cascade"));
    for off in ["false", "0", "no", "OFF"] {
        let delete = bench.request("DELETE", &format!("/admin/models/base?cascade={off}"));
        delete.refused(409, "has_dependents").await;
    }
    for wrong in ["", "maybe", "2"] {
        let delete = bench.request("DELETE", &format!("/admin/models/base?cascade={wrong}"));
        delete.refused(400, "invalid_value").await;
    }
    assert_eq!(bench.overlay(), "");
    let deleted = bench
        .request("DELETE", "/admin/models/base?cascade=True")
        .done()
        .await;
    assert_eq!(
        names(&deleted["deleted"]),
        ["base", "child", "grandchild", "sibling"]
    );
    assert_eq!(deleted["message"], "Deleted 4 model(s)");
    assert_eq!(bench.names().await, ["other"]);
    bench
        .request("DELETE", "/admin/models/base")
        .refused(404, "not_found")
        .await;
}

#[tokio::test]
async fn a_copy_is_a_model_of_its_own() {
    let bench = Bench::with(FAMILY);
    let copied = bench.request("POST", "/admin/models/copy?source=child&target=twin");
    let copied = copied.done().await;
    assert_eq!(copied["model"]["extends"], "base");
    let twin = bench.get("/admin/models/twin").await;
    assert_eq!(twin["own"], json!({"extends": "base", "target_model": "x"}));
    bench
        .put(
            "/admin/models/child",
            &json!({"extends": "base", "target_model": "y"}),
        )
        .await;
    assert_eq!(
        bench.get("/admin/models/twin").await["config"]["target_model"],
        "x"
    );

    let body = json!({"source": "twin", "target": "a/b c"});
    bench.post("/admin/models/copy", &body).await;
    assert_eq!(bench.get("/admin/models/a/b%20c").await["name"], "a/b c");
    for (body, status, code) in [
        (json!({"source": "twin", "target": "base"}), 409, "exists"),
        (json!({"source": "nobody", "target": "z"}), 404, "not_found"),
        (
            json!({"source": "twin", "target": " "}),
            400,
            "invalid_value",
        ),
        (
            json!({"source": "twin", "target": "TWIN"}),
            400,
            "bad_config",
        ),
        (json!({"source": "twin"}), 400, "invalid_value"),
        (json!({"source": "twin", "target": 1}), 400, "invalid_value"),
        (
            json!({"source": "twin", "target": "z", "also": 1}),
            400,
            "invalid_value",
        ),
    ] {
        let copy = bench.request("POST", "/admin/models/copy").json(&body);
        copy.refused(status, code).await;
    }
    let twice = bench
        .request("POST", "/admin/models/copy?source=twin")
        .json(&body);
    twice.refused(400, "invalid_value").await;
}

#[tokio::test]
async fn a_copy_keeps_variables_as_they_are_written() {
    let bench = Bench::with(
        "models: {a: {routes: [{backend: east, model: \"${LLMPROXY_NO_SUCH:-m}\"}]}}\n",
    );
    bench
        .request("POST", "/admin/models/copy?source=a&target=b")
        .done()
        .await;
    assert!(
        bench.overlay().contains("${LLMPROXY_NO_SUCH:-m}"),
        "{}",
        bench.overlay()
    );
    let explained = bench.get("/admin/routes?model=b").await;
    assert_eq!(explained["routes"][0]["model"], "m");
}

#[tokio::test]
async fn models_are_put_in_order() {
    let bench = Bench::with(FAMILY);
    let order = json!({"order": ["sibling", "base"]});
    let ordered = bench.put("/admin/models/order", &order).await;
    let expected = ["sibling", "base", "other", "child", "grandchild"];
    assert_eq!(names(&ordered["models_order"]), expected);
    assert_eq!(bench.names().await, expected);
    for (order, param) in [
        (json!({"order": ["base", "nobody"]}), "order[1]"),
        (json!({"order": ["base", "other", "base"]}), "order[2]"),
        (json!({"order": ["base", 7]}), "order[1]"),
        (json!({"order": "base"}), "order"),
        (json!({"order": [], "more": 1}), "more"),
    ] {
        let put = bench.request("PUT", "/admin/models/order").json(&order);
        let refusal = put.refused(400, "invalid_value").await;
        assert_eq!(refusal["error"]["param"], param);
    }
    assert_eq!(bench.names().await, expected);
}

#[tokio::test]
async fn a_model_that_makes_no_sense_changes_nothing_and_says_where() {
    let bench = Bench::with(FAMILY);
    for (section, words) in [
        (
            json!({"routes": [{"backend": "north"}]}),
            "models.new.routes[0].backend",
        ),
        (json!({}), "models.new.routes"),
        (json!({"extends": "nobody"}), "models.new.extends"),
        (json!({"extends": "new"}), "new extends new"),
        (json!({"extends": "base", "weird": 1}), "weird"),
        (json!({"extends": "base", "<<": {}}), "<<"),
    ] {
        let put = bench.request("PUT", "/admin/models/new").json(&section);
        let refusal = put.refused(400, "bad_config").await;
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    for (body, param) in [
        (json!({"name": "", "extends": "base"}), "name"),
        (json!({"extends": "base"}), "name"),
        (json!({"name": 1}), "name"),
        (json!({"name": "new", "routes": "***"}), "routes"),
        (
            json!({"name": "new", "parameters": {"a": {"default": ["***"]}}}),
            "parameters",
        ),
    ] {
        let post = bench.request("POST", "/admin/models").json(&body);
        let refusal = post.refused(400, "invalid_value").await;
        assert_eq!(refusal["error"]["param"], param);
    }
    let put = bench.request("PUT", "/admin/models/new");
    let other_name = put.json(&json!({"name": "newer", "extends": "base"}));
    other_name.refused(400, "invalid_value").await;
    for body in ["", "[]", "{", "null"] {
        let put = bench
            .request("PUT", "/admin/models/new")
            .bytes(body.as_bytes());
        put.refused(400, "bad_request").await;
    }
    assert_eq!(bench.overlay(), "");
    assert_eq!(bench.names().await.len(), 5);
}

#[tokio::test]
async fn any_name_can_be_a_models() {
    let bench = Bench::with("");
    let section = json!({"routes": [{"backend": "east"}]});
    for (path, name) in [
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("openai%2Fgpt-4.1", "openai/gpt-4.1"),
        ("%74ree", "tree"),
        ("c%6Fpy", "copy"),
        ("order%20", "order "),
        ("a%2Fancestry", "a/ancestry"),
        ("a/b%2Fdependents", "a/b/dependents"),
        ("a/restor%65", "a/restore"),
        ("restore", "restore"),
        ("ancestry", "ancestry"),
        ("tree/x", "tree/x"),
        ("/x", "/x"),
        ("x%3F%23%25", "x?#%"),
        ("%E6%A8%A1%E5%9E%8B", "模型"),
        ("gpt-*", "gpt-*"),
    ] {
        let put = bench.put(&format!("/admin/models/{path}"), &section).await;
        assert_eq!(put["model"], name);
        let shown = bench.get(&format!("/admin/models/{path}")).await;
        assert_eq!(shown["name"], name, "{path}");
    }
    let dependents = bench.get("/admin/models/a%2Fancestry/dependents").await;
    assert_eq!(dependents["model"], "a/ancestry");
    let not_text = bench.request("GET", "/admin/models/%FF");
    not_text.refused(404, "not_found").await;
    bench
        .request("GET", "/admin/models/")
        .refused(404, "not_found")
        .await;
}

#[tokio::test]
async fn other_methods_are_refused_and_told_which_there_are() {
    let bench = Bench::with(FAMILY);
    for (path, allowed) in [
        ("/admin/models", "GET, POST"),
        ("/admin/models/tree", "GET"),
        ("/admin/models/copy", "POST"),
        ("/admin/models/order", "PUT"),
        ("/admin/models/a/b", "GET, PUT, DELETE"),
        ("/admin/models/a/b/ancestry", "GET"),
        ("/admin/models/a/b/dependents", "GET"),
        ("/admin/models/a/b/restore", "POST"),
        ("/admin/config", "GET"),
        ("/admin/config/reload", "POST"),
        ("/admin/routes", "GET"),
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if allowed.split(", ").any(|known| known == method) {
                continue;
            }
            let reply = bench.request(method, path).reply().await;
            assert_eq!(
                (reply.status, reply.allow),
                (405, Some(allowed)),
                "{method} {path}"
            );
        }
    }
}
