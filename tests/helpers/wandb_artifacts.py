"""Artifacts at the stand-in server: made, committed, used and fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.helpers.wandb_objects import NOW, Artifact, name_in, opaque_id, project_node

if TYPE_CHECKING:
    from tests.helpers.wandb_server import Operation, WandbServer


def artifact_type(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    versions = server.versions(variables["name"].split(":")[0])
    return {"project": {"artifact": {"artifactType": {"name": versions[0].type}} if versions else None}}


def create(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    given = variables["input"]
    collection = given["artifactCollectionName"]
    aliases = {alias["alias"] for alias in given.get("aliases") or []}
    versions = server.versions(collection)
    same = [version for version in versions if version.digest == given["digest"]]
    if same:
        artifact = same[0]
        _move_aliases(server, artifact, aliases)
    else:
        artifact = Artifact(
            id=opaque_id("Artifact", str(len(server.drafts))),
            type=given["artifactTypeName"],
            collection=collection,
            digest=given["digest"],
            entity=given["entityName"],
            project=given["projectName"],
            creator=given["runName"],
            aliases=aliases,
            description=given.get("description"),
            metadata=json.loads(given.get("metadata") or "{}"),
            client_id=given.get("clientID") or "",
        )
        server.drafts[artifact.id] = artifact
    answer = {
        "id": artifact.id,
        "state": "COMMITTED" if same else "PENDING",
        "artifactSequence": {"latestArtifact": {"id": versions[-1].id} if versions else None},
    }
    return {"createArtifact": {"artifact": answer}}


def manifest(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """CreateArtifactManifest and UpdateArtifactManifest: first without, then with a place to put the manifest."""
    manifest_id = variables.get("artifactManifestID") or opaque_id("Manifest", variables["artifactID"])
    artifact = server.drafts[name_in(manifest_id)]
    url = server.upload_url("manifest", lambda content: artifact.manifest.update(json.loads(content)))
    file = {"id": opaque_id("File", manifest_id), "uploadUrl": url, "uploadHeaders": []}
    key = "updateArtifactManifest" if "artifactManifestID" in variables else "createArtifactManifest"
    return {key: {"artifactManifest": {"id": manifest_id, "file": file}}}


def create_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    edges = []
    for spec in variables["input"]["artifactFiles"]:
        artifact, name = server.drafts[spec["artifactID"]], spec["name"]
        url = server.upload_url(name, lambda content, a=artifact, name=name: _put(a, name, content))
        node = {
            "storagePath": f"artifacts/{artifact.id}/{name}",
            "uploadUrl": url,
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
            "artifact": {"id": artifact.id},
        }
        edges.append({"node": node})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    artifact = server.drafts[variables["artifactID"]]
    if artifact.version is None:
        artifact.version = len(server.versions(artifact.collection))
        server.artifacts.append(artifact)
        _move_aliases(server, artifact, set(artifact.aliases))
    return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}


def use(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    given = variables.get("input") or variables  # wandb-core's way, and that of wandb.Api
    artifact = server.drafts[given["artifactID"]]
    server.runs[given["runName"]].used.append(artifact)
    return {"useArtifact": {"artifact": {"id": artifact.id}}}


def by_id(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"artifact": _node(server.drafts[variables["id"]])}


def membership(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """One version by "collection:alias" or "collection:v0"; null when there is none."""
    artifact = _find(server, variables["name"])
    return {"project": {"artifactCollectionMembership": None if artifact is None else _membership(artifact)}}


def fetch_manifest(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    artifact = server.drafts[variables["id"]]
    url = server.download_url("manifest", json.dumps(artifact.manifest).encode())
    return {"artifact": {"currentManifest": {"file": {"directUrl": url}}}}


def file_urls(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    artifact = _find(server, f"{variables['collection']}:{variables['alias']}")
    if artifact is None:
        raise LookupError(variables)
    # What the manifest only refers to is listed too, with the address it has there.
    urls = {name: server.download_url(name, content) for name, content in artifact.files.items()}
    urls |= {name: entry["ref"] for name, entry in artifact.manifest["contents"].items() if "ref" in entry}
    edges = [
        {"node": {"__typename": "File", "name": name, "directUrl": url}, "cursor": name} for name, url in urls.items()
    ]
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    found = {**_membership(artifact), "files": {"pageInfo": page, "edges": edges}}
    return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": found}}}


def add_aliases(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    given = variables["input"]
    _move_aliases(server, server.drafts[given["artifactID"]], {one["alias"] for one in given["aliases"]})
    return {"result": {"success": True}}


def delete_aliases(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    given = variables["input"]
    server.drafts[given["artifactID"]].aliases -= {one["alias"] for one in given["aliases"]}
    return {"result": {"success": True}}


def update(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """What `Artifact.save()` ends with; aliases were changed before."""
    given = variables["input"]
    artifact = server.drafts[given["artifactID"]]
    artifact.description, artifact.metadata = given["description"], json.loads(given["metadata"])
    return {"result": {"artifact": _node(artifact)}}


def _find(server: WandbServer, name: str) -> Artifact | None:
    collection, _, alias = name.partition(":")
    found = [one for one in server.versions(collection) if alias in one.aliases or alias == f"v{one.version}"]
    return found[0] if found else None


def _membership(artifact: Artifact) -> dict[str, Any]:
    node = _node(artifact)
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": opaque_id("Membership", artifact.id),
        "versionIndex": artifact.version,
        "createdAt": NOW,
        "aliases": node["aliases"],
        "artifactCollection": node["artifactSequence"],
        "artifact": node,
    }


def _put(artifact: Artifact, name: str, content: bytes) -> None:
    artifact.files[name] = content


def _move_aliases(server: WandbServer, artifact: Artifact, aliases: set[str]) -> None:
    """An alias points at one version of its collection."""
    for version in server.versions(artifact.collection):
        version.aliases -= aliases
    artifact.aliases |= aliases


def _node(artifact: Artifact) -> dict[str, Any]:
    project = project_node(artifact.entity, artifact.project)
    sequence = {"__typename": "ArtifactSequence", "name": artifact.collection, "project": project}
    aliases = [
        {"__typename": "ArtifactAlias", "id": opaque_id("Alias", alias), "alias": alias, "artifactCollection": sequence}
        for alias in sorted(artifact.aliases)
    ]
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": sequence,
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "description": artifact.description,
        "metadata": json.dumps(artifact.metadata),
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": sum(map(len, artifact.files.values())),
        "digest": artifact.digest,
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": "",
        "fileCount": len(artifact.files),
        "createdAt": NOW,
        "updatedAt": NOW,
        "aliases": aliases,
    }


OPERATIONS: dict[str, Operation] = {
    "ArtifactType": artifact_type,
    "CreateArtifact": create,
    "CreateArtifactManifest": manifest,
    "UpdateArtifactManifest": manifest,
    "CreateArtifactFiles": create_files,
    "CommitArtifact": commit,
    "UseArtifact": use,
    "ArtifactByID": by_id,
    "ArtifactMembershipByName": membership,
    "FetchArtifactManifest": fetch_manifest,
    "GetArtifactMembershipFileUrls": file_urls,
    "AddAliases": add_aliases,
    "DeleteAliases": delete_aliases,
    "UpdateArtifact": update,
}
