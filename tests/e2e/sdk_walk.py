"""Walks the documented tutorial with the official Python SDK, and uses every operation of the three resources.

Usage: sdk_walk.py BASE_URL TOKEN_FILE ACME_DIRECTORY KEY_ID_FILE DOMAIN UPLOAD_FOLDER
Every check raises; the last line says how many operations were used.
"""

import pathlib
import sys
import time

import ionoscloud_cert_manager as sdk
from ionoscloud_cert_manager import AutoCertificateApi, CertificateApi, ProviderApi

base, token_file, directory, binding_file, domain, upload = sys.argv[1:]
token = pathlib.Path(token_file).read_text().strip()
key_id, key_secret = pathlib.Path(binding_file).read_text().split()
client = sdk.ApiClient(sdk.Configuration(host=base, token=token))
providers, autos, certificates = ProviderApi(client), AutoCertificateApi(client), CertificateApi(client)
used = set()


def call(api, operation, *arguments, **options):
    used.add(operation)
    return getattr(api, operation)(*arguments, **options)


def gone(api, operation, identifier):
    try:
        call(api, operation, identifier)
    except sdk.exceptions.ApiException as error:
        assert error.status == 404, error
    else:
        raise AssertionError(f"{operation}({identifier}) still answers")


# Step 1: a provider with external account binding.
binding = sdk.ProviderExternalAccountBinding(key_id=key_id, key_secret=key_secret)
properties = sdk.Provider(name="Pebble", email="sdk@example.com", server=directory, external_account_binding=binding)
provider = call(providers, "providers_post", sdk.ProviderCreate(properties=properties))
assert provider.properties.external_account_binding.key_id == key_id
assert "key_secret" not in provider.to_str().replace("'key_secret': None", ""), "the secret came back"
assert call(providers, "providers_find_by_id", provider.id).properties.name == "Pebble"
renamed = call(providers, "providers_patch", provider.id, sdk.ProviderPatch(properties=sdk.PatchName(name="Local CA")))
assert renamed.properties.name == "Local CA"
assert provider.id in [item.id for item in call(providers, "providers_get").items]

# Step 2: an auto-certificate linked to it.
properties = sdk.AutoCertificate(
    provider=provider.id,
    common_name=f"www.{domain}",
    key_algorithm="rsa2048",
    name="My Auto Certificate",
    subject_alternative_names=[f"app.{domain}", f"*.apps.{domain}"],
)
auto = call(autos, "auto_certificates_post", sdk.AutoCertificateCreate(properties=properties))
assert auto.metadata.state == "PROVISIONING", auto.metadata
for _ in range(300):
    auto = call(autos, "auto_certificates_find_by_id", auto.id)
    if auto.metadata.state == "AVAILABLE":
        break
    assert auto.metadata.state != "FAILED", auto.metadata.message
    time.sleep(0.1)
assert auto.metadata.last_issued_certificate, auto.metadata
patch = sdk.AutoCertificatePatch(properties=sdk.PatchName(name="Renamed"))
assert call(autos, "auto_certificates_patch", auto.id, patch).properties.name == "Renamed"
assert [item.id for item in call(autos, "auto_certificates_get", filter_common_name=f"WWW.{domain}").items] == [auto.id]

# What was issued, by id and by both filters.
issued = call(certificates, "certificates_find_by_id", auto.metadata.last_issued_certificate)
assert issued.metadata.auto_certificate == auto.id, issued.metadata
assert set(issued.metadata.subject_alternative_names) == {f"www.{domain}", f"app.{domain}", f"*.apps.{domain}"}
assert issued.properties.certificate.startswith("-----BEGIN CERTIFICATE-----")
by_auto = call(certificates, "certificates_get", filter_auto_certificate=auto.id).items
by_name = call(certificates, "certificates_get", filter_common_name=f"www.{domain}", offset=0, limit=10).items
assert [item.id for item in by_auto] == [issued.id] == [item.id for item in by_name]

# An upload.
folder = pathlib.Path(upload)
certificate, key = (folder / "certificate.pem").read_text(), (folder / "key.pem").read_text()
properties = sdk.Certificate(name="Uploaded", certificate=certificate, certificate_chain=certificate, private_key=key)
uploaded = call(certificates, "certificates_post", sdk.CertificateCreate(properties=properties))
assert uploaded.properties.certificate == certificate, "the PEM is echoed as it was uploaded"
patch = sdk.CertificatePatch(properties=sdk.PatchName(name="Upload, renamed"))
assert call(certificates, "certificates_patch", uploaded.id, patch).properties.name == "Upload, renamed"

# Everything away again. The provider is refused while it is in use.
try:
    call(providers, "providers_delete", provider.id)
except sdk.exceptions.ApiException as error:
    assert error.status == 409, error
else:
    raise AssertionError("a provider in use was deleted")
call(certificates, "certificates_delete", uploaded.id)
gone(certificates, "certificates_find_by_id", uploaded.id)
call(autos, "auto_certificates_delete", auto.id)
gone(autos, "auto_certificates_find_by_id", auto.id)
call(providers, "providers_delete", provider.id)
gone(providers, "providers_find_by_id", provider.id)

expected = {
    f"{resource}_{operation}"
    for resource in ("providers", "auto_certificates", "certificates")
    for operation in ("get", "post", "find_by_id", "patch", "delete")
}
assert used == expected, expected ^ used
print(f"{len(used)} operations used")
