"""The README's story by generated clients: story.py NODE COOKIE-FILE OTHER-NODE COORDINATOR.

The clients are made from the servers' own descriptions by a generator that others wrote; nothing here knows a path.
"""

import sys
import time

from node_client import AuthenticatedClient, Client
from node_client.api.blocks import get_block, mine_block
from node_client.api.chains import list_chains
from node_client.api.check import check_everything
from node_client.api.node import get_leader, get_peers, get_status
from node_client.api.records_and_accounts import get_account, get_record
from node_client.api.transactions import get_mempool, get_receipt, get_transaction, put_records, verify_receipt
from node_client.api.wallets import add_wallet, list_wallets, sign_with_wallet
from node_client.models import ApiError, CheckRequest, MineRequest, NewWallet, RecordsRequest, SignTransfer, SignTransferType
from server_client import Client as CoordinatorClient
from server_client.api.chains import chain_view

PATIENCE = 60


def good(answer):
    """An answer that is no refusal."""
    assert answer is not None and not isinstance(answer, ApiError), answer
    return answer


def until(what, ask):
    """Asks again until it is so: nothing else tells a client without an open stream."""
    end = time.monotonic() + PATIENCE
    while not (found := ask()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def main(node, cookie_file, other, coordinator):
    with open(cookie_file, encoding="ascii") as file:
        ana = AuthenticatedClient(base_url=node, token=file.read().strip())
    ben = Client(base_url=other)

    status = good(get_status.sync(client=ana))
    assert (status.chain, status.name) == ("main", "ana"), status
    until("ana sees ben", lambda: good(get_peers.sync(client=ana)).count == 1)
    assert good(get_leader.sync(client=ana)).leader_id, "there is a leader"
    assert [chain.name for chain in good(list_chains.sync(client=ana)).chains] == ["main"]

    # Records wait on every worker.
    records = [["invoice/1", '{"paid":true}'], ["grüße", "an alle"]]
    added = good(put_records.sync(client=ana, body=RecordsRequest(records=records)))
    assert added.count == 2 and added.status == "pending", added
    until("ben has them", lambda: good(get_mempool.sync(client=ben)).count == 2)

    # A block of them, final when a majority holds it.
    block = good(mine_block.sync(client=ana, body=MineRequest(wait_ms=30_000)))
    assert len(block.transactions) == 2 and block.index == status.height + 1, block
    first = added.transaction_ids[0]
    until("it is final at ben's", lambda: good(get_transaction.sync(first, client=ben)).status == "final")
    assert good(get_block.sync(str(block.index), client=ben)).hash_ == block.hash_
    record = good(get_record.sync(client=ben, key="grüße"))
    assert record.value == "an alle" and record.block == block.index, record

    # Its proof.
    receipt = get_receipt.sync_detailed(first, client=ana)
    assert receipt.status_code == 200 and b"receipt" in receipt.content, receipt
    until("the receipt is final", lambda: good(verify_receipt.sync(first, client=ana)).standing == "final")

    # A wallet, and the reward of the block.
    wallet = good(add_wallet.sync(client=ana, body=NewWallet(label="shop")))
    assert wallet.address in [found.address for found in good(list_wallets.sync(client=ana)).wallets]
    account = good(get_account.sync(block.producer, client=ben))
    assert account.confirmed >= block.reward > 0, account

    # Half of the reward goes to the wallet that was made.
    sent = SignTransfer(type_=SignTransferType.TRANSFER, to=wallet.address, amount=1, memo="by a generated client")
    good(sign_with_wallet.sync(status.address, client=ana, body=sent))
    later = good(mine_block.sync(client=ana, body=MineRequest(wait_ms=30_000)))
    assert later.index == block.index + 1, later
    assert good(get_account.sync(wallet.address, client=ana)).confirmed == 1
    block = later

    # All replicas are the same, and the coordinator knows it.
    report = good(check_everything.sync(client=ana, body=CheckRequest()))
    assert report.consistent and len(report.replicas) == 2, report
    view = chain_view.sync("main", client=CoordinatorClient(base_url=coordinator))
    assert view.final_size == block.index + 1, view

    # What is refused says why.
    refused = get_transaction.sync("ab" * 32, client=ana)
    assert isinstance(refused, ApiError) and refused.code == "not_found" and refused.message, refused
    stranger = put_records.sync(client=AuthenticatedClient(base_url=node, token="wrong"), body=RecordsRequest(records=records))
    assert isinstance(stranger, ApiError) and stranger.code == "forbidden", stranger
    print(f"block {block.index} of {len(block.transactions)} records is final, and its receipt verifies")


if __name__ == "__main__":
    main(*sys.argv[1:])
